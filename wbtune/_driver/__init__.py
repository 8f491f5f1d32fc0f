"""What Tune's loop says of its trials becomes messages to the helper process.

Runs in: the driver. In come the calls of Tune's callbacks; out go the messages that the helper
carries out. Tune's loop waits for none of it, and gets no exception from it.
"""
