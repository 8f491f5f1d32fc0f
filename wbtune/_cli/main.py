"""The command ``wbtune``: its commands, and what becomes of errors."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

import click

from wbtune._cli.output import LEFT, WRONG_USE
from wbtune._data.masking import mask_text
from wbtune.errors import ServerUnreachableError, WbtuneError

#: The module of each command, which is imported when the command is used.
_COMMANDS: Final = {
    "run": "run_command",
    "import": "import_command",
    "sync": "sync_command",
    "overview": "overview_command",
    "doctor": "doctor_command",
}
#: A shell's exit code for a process that Ctrl-C ended.
_INTERRUPTED: Final = 130


class _Commands(click.Group):
    """The commands; errors that a user can mend end them with one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f"wbtune._cli.{_COMMANDS[cmd_name]}")
        command: click.Command = module.command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except WbtuneError as error:
            _say(str(error))
            ctx.exit(LEFT if isinstance(error, ServerUnreachableError) else WRONG_USE)
        except BrokenPipeError:  # nobody reads what is printed, which click knows how to end
            raise
        except OSError as error:  # a full disk, no right to write
            _say(str(error))
            ctx.exit(LEFT)
        except KeyboardInterrupt:
            # Message: a warning by itself.
            # Cause: Ctrl-C.
            click.echo("wbtune: interrupted; what is done is kept, run it again to go on", err=True)
            ctx.exit(_INTERRUPTED)


def _say(text: str) -> None:
    """Print an error, which may begin with the command's name already."""
    shown = mask_text(text)
    click.echo(shown if shown.startswith("wbtune ") else f"wbtune: {shown}", err=True)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="wbtune")
def main() -> None:
    """Weights & Biases for Ray Tune: run a sweep, import, send and draw experiments.

    Exit codes: 0 all was done, 1 something is left, 2 wrong use.
    """
