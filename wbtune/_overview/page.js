"use strict";
(() => {
  const { tooltips, figures } = JSON.parse(document.getElementById("data").textContent);
  const config = {
    displaylogo: false,
    responsive: true,
    showSendToCloud: false, // or there is a button that uploads the chart
    modeBarButtonsToRemove: ["select2d", "lasso2d"],
  };

  // --- The charts, in the colours of the page ---

  function template() {
    const style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue(name).trim();
    const axis = {
      gridcolor: color("--line"), zerolinecolor: color("--line"), linecolor: color("--line"),
      automargin: true, title: { font: { size: 13 }, standoff: 8 }, exponentformat: "power",
    };
    const label = { bgcolor: color("--card"), bordercolor: color("--line"), align: "left" };
    const font = { color: color("--ink"), family: style.fontFamily, size: 12 };
    return { layout: {
      font, hoverlabel: { ...label, font }, xaxis: axis, yaxis: axis,
      paper_bgcolor: color("--card"), plot_bgcolor: color("--card"),
      margin: { t: 28, r: 20, b: 45, l: 70 },
    } };
  }

  async function drawAll() {
    for (const [id, { data, layout }] of Object.entries(figures)) {
      for (const trace of data) {
        if (trace.meta !== undefined) trace.text = tooltips[trace.meta];
        if (trace.customdata) trace.text = trace.customdata.map((trial) => tooltips[trial]);
      }
      await Plotly.newPlot(id, data, { ...layout, template: template() }, config);
      if (id === parallel.id) parallel.on("plotly_restyle", select);
      await new Promise((next) => setTimeout(next)); // the page can be read meanwhile
    }
    document.documentElement.dataset.drawn = "all";
  }

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const id of Object.keys(figures)) Plotly.relayout(id, { template: template() });
  });

  for (const button of document.querySelectorAll("[data-log]")) {
    const id = button.dataset.log;
    button.hidden = !figures[id].data.every(({ y }) => y.every((value) => value === null || value > 0));
    const { range } = figures[id].layout.yaxis;
    button.addEventListener("click", () => {
      const log = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", log);
      const limits = range && !log ? { "yaxis.range": range } : { "yaxis.autorange": true };
      const others = Object.keys(figures[id].layout).filter((name) => /^yaxis\d/.test(name));
      const types = others.map((name) => [`${name}.type`, log ? "log" : "linear"]);
      Plotly.relayout(id, { "yaxis.type": log ? "log" : "linear", ...Object.fromEntries(types), ...limits });
    });
  }

  // --- The table ---

  const body = document.querySelector("#trials tbody");
  const rows = [...body.rows];

  function key(row, column) {
    const cell = row.cells[column];
    if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
    return cell.classList.contains("n") ? null : cell.textContent || null;
  }

  document.querySelectorAll("#trials thead th").forEach((head, column) => {
    head.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      head.parentElement.querySelectorAll("[aria-sort]").forEach((one) => one.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const keyed = rows.map((row) => [key(row, column), row]);
      keyed.sort(([one], [other]) => {
        if (one === null || other === null) return (one === null) - (other === null); // at the end
        const mixed = typeof one !== typeof other; // numbers before texts
        const order = mixed ? (typeof one === "number" ? -1 : 1) : one < other ? -1 : one > other ? 1 : 0;
        return down ? -order : order;
      });
      body.append(...keyed.map(([, row]) => row));
    });
  });

  body.addEventListener("click", (event) => event.target.closest("tr")?.classList.toggle("open"));

  // --- What is selected in the parallel coordinates is what the table shows ---

  const parallel = document.getElementById("parallel-coordinates");
  const selected = document.getElementById("selected");

  function inside(value, range) {
    const ranges = Array.isArray(range[0]) ? range : [range];
    return ranges.some(([low, high]) => low <= value && value <= high);
  }

  function select() {
    const { ids, dimensions } = parallel.data[0];
    const chosen = dimensions.filter(({ constraintrange }) => constraintrange?.length);
    const shown = ids.filter((_, at) =>
      chosen.every(({ values, constraintrange }) => inside(values[at], constraintrange)));
    const trials = chosen.length ? new Set(shown) : null;
    for (const row of rows) row.hidden = trials !== null && !trials.has(row.dataset.trial);
    selected.textContent = trials
      ? `${shown.length} of ${rows.length} trials are selected in the parallel coordinates.` : "";
  }

  drawAll();
})();
