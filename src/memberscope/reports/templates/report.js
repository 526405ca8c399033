"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const percent = (x) => (100 * x).toPrecision(3).replace(/\.?0+$/, (m) => (m.includes(".") ? "" : m)) + "%";
  const palette = ["#1f77b4", "#d95f02", "#2a9d4b", "#c0392b", "#8e5bb5", "#8c6d31", "#d9539b", "#17a2b0"];
  const PRINTED = 660; // pixels that fit on A4 and on Letter
  let printing = false;
  const width = (node) => (printing ? PRINTED : Math.max(240, node.clientWidth));
  const charts = [];

  // Tables that a phone shows as blocks stay tables to a screen reader.
  function nameRoles(table) {
    table.setAttribute("role", "table");
    const roles = { "thead, tbody": "rowgroup", tr: "row", td: "cell", "thead th": "columnheader", "tbody th": "rowheader" };
    Object.entries(roles).forEach(([chosen, role]) => table.querySelectorAll(chosen).forEach((node) => node.setAttribute("role", role)));
  }

  // The prior's slider: precision follows from TPR and FPR by Bayes' rule, limits included.
  const ppv = (tpr, fpr, prior) => (prior * tpr) / (prior * tpr + (1 - prior) * fpr || 1);
  const atRate = data.priors.filter((row) => row.fpr === data.fpr);
  // The weakest level of access and the declared one: the table above has those between
  const priors = atRate.filter((row, i) => i === 0 || i === atRate.length - 1);
  let moved = false;
  function showPrior() {
    const prior = moved ? 10 ** Number(byId("prior").value) : data.prior;
    byId("prior-value").textContent = percent(prior);
    byId("prior").setAttribute("aria-valuetext", percent(prior));
    const right = (row, key) => percent(ppv(row[key], row.fpr, prior));
    const names = ["one query returns", "members found", "accusations that are right"];
    byId("prior-rows").replaceChildren(...priors.map((row) => {
      const tr = document.createElement("tr");
      const cells = [row.access, `${percent(row.tpr)} by ${row.attack}`, `${right(row, "tpr")} (${right(row, "low")} to ${right(row, "high")})`];
      cells.forEach((text, i) => {
        const cell = document.createElement(i ? "td" : "th");
        if (i) cell.dataset.label = names[i]; else cell.scope = "row";
        cell.append(text);
        tr.append(cell);
      });
      return tr;
    }));
    nameRoles(byId("prior-rows").closest("table"));
    const last = priors.at(-1);
    if (moved && last) byId("prior-said").textContent = `If ${percent(prior)} are members, ${right(last, "tpr")} of accusations with ${last.access} are right.`;
  }
  byId("prior").addEventListener("input", () => { moved = true; showPrior(); });
  document.querySelectorAll("table").forEach(nameRoles);
  showPrior();

  const axis = (extra) => ({ stroke: () => css("--soft"), grid: { stroke: () => css("--grid"), width: 1 }, ticks: { stroke: () => css("--grid") }, ...extra });
  const show = (node, options, series) => {
    const chart = new uPlot({ width: width(node), height: 260, cursor: { y: false }, ...options }, series, node);
    charts.push([chart, node]);
    return chart;
  };
  // A chart in a fold has no width before the fold is opened.
  const whenOpen = (node, draw) => {
    const fold = node.closest("details");
    if (!fold || fold.open) { draw(); return; }
    fold.addEventListener("toggle", draw, { once: true });
  };

  const roc = data.charts.roc;
  if (roc) {
    const names = Object.keys(roc.curves);
    const positive = (list) => list.map((v) => (v > 0 ? v : null));
    const series = [{ label: "FPR" }, { label: "chance", stroke: () => css("--soft"), dash: [2, 4], points: { show: false } }];
    const values = [roc.fpr, roc.fpr];
    const bands = [];
    names.forEach((name, i) => {
      const colour = palette[i % palette.length], on = i < 3;
      const line = { stroke: colour, show: on, points: { show: false }, spanGaps: true };
      series.push({ ...line, label: name, width: 2, dash: i >= palette.length ? [6, 4] : undefined });
      series.push({ ...line, label: name + " upper", width: 0 }, { ...line, label: name + " lower", width: 0 });
      const at = series.length;
      bands.push({ series: [at - 2, at - 1], fill: colour + "33" });
      const floor = 0.2 / Math.max(1, 1 / roc.fpr[0]);
      values.push(positive(roc.curves[name].tpr), positive(roc.curves[name].high), roc.curves[name].low.map((v) => (v === null ? null : Math.max(v, floor))));
    });
    const hover = byId("roc-hover");
    const chart = show(byId("roc"), {
      height: 310, series, bands,
      scales: { x: { distr: 3, time: false, range: [roc.fpr[0], 1] }, y: { distr: 3, range: [roc.fpr[0], 1] } },
      axes: [axis({ label: "other records named by mistake (false-positive rate)", values: (u, ticks) => ticks.map((v) => (v === null ? "" : percent(v))) }),
        axis({ label: "members found (true-positive rate)", size: 64, values: (u, ticks) => ticks.map((v) => (v === null ? "" : percent(v))) })],
      hooks: { setCursor: [(u) => {
        const i = u.cursor.idx;
        if (i === null || i === undefined) return;
        const shown = names.filter((_, k) => u.series[2 + 3 * k].show).map((name) => `${name} ${percent(roc.curves[name].tpr[i])}`);
        hover.textContent = `At ${percent(roc.fpr[i])} false positives: ${shown.join("; ")}`;
      }] },
    }, values);
    const at = roc.fpr.findIndex((v) => v >= (data.fpr || 0));
    const describe = () => {
      const shown = names.filter((_, k) => chart.series[2 + 3 * k].show).map((name) => `${name} ${percent(roc.curves[name].tpr[at])}`);
      byId("roc").setAttribute("aria-label", `ROC curves on logarithmic axes. Members found at ${percent(roc.fpr[at])} false positives: ${shown.join(", ") || "no attack is shown"}. The tables hold the same numbers.`);
    };
    names.forEach((name, i) => {
      const label = document.createElement("label"), box = document.createElement("input");
      box.type = "checkbox";
      box.checked = i < 3;
      box.addEventListener("change", () => { [0, 1, 2].forEach((k) => chart.setSeries(2 + 3 * i + k, { show: box.checked })); describe(); });
      const swatch = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      swatch.setAttribute("width", "22"); swatch.setAttribute("height", "8"); swatch.setAttribute("aria-hidden", "true");
      const stroke = document.createElementNS("http://www.w3.org/2000/svg", "line");
      Object.entries({ x1: 0, y1: 4, x2: 22, y2: 4, stroke: palette[i % palette.length], "stroke-width": 3, "stroke-dasharray": i >= palette.length ? "6 4" : "none" })
        .forEach(([key, value]) => stroke.setAttribute(key, value));
      swatch.append(stroke);
      label.append(box, swatch, [name, ...roc.same[name]].join(", "));
      byId("roc-toggles").append(label);
    });
    describe();
  }

  const histograms = data.charts.histograms, choose = byId("hist-attack");
  let shown = null;
  // The mean of binned scores, for the words that stand in for the chart
  const mean = (x, share) => x.reduce((sum, value, i) => sum + value * share[i], 0).toPrecision(3);
  function showHistogram() {
    const one = histograms[choose.value];
    if (!one) return;
    if (shown) { charts.splice(charts.findIndex(([c]) => c === shown), 1); shown.destroy(); }
    const steps = uPlot.paths.stepped({ align: 0 });
    const line = (label, colour) => ({ label, stroke: colour, fill: colour + "33", width: 2, paths: steps, points: { show: false } });
    shown = show(byId("hist"), {
      height: 310, scales: { x: { time: false } },
      series: [{ label: "score" }, line("members", palette[1]), line("others", palette[0])],
      axes: [axis({ label: "score (members orange, others blue)" }), axis({ label: "share of records", size: 64, values: (u, ticks) => ticks.map(percent) })],
    }, [one.x, one.members, one.non_members]);
    byId("hist").setAttribute("aria-label", `Histogram of scores of ${choose.value}: members are at ${mean(one.x, one.members)} on average, others at ${mean(one.x, one.non_members)}.`);
  }
  Object.keys(histograms).forEach((name) => choose.append(new Option(name)));
  choose.addEventListener("change", showHistogram);
  showHistogram();

  const reliability = data.charts.reliability;
  if (reliability && reliability.bins.length > 1) whenOpen(byId("reliability"), () => {
    const bins = [...reliability.bins].sort((a, b) => a.predicted - b.predicted);
    const colour = palette[0], pick = (key) => bins.map((bin) => bin[key]);
    show(byId("reliability"), {
      height: 280, scales: { x: { time: false } },
      series: [{ label: "predicted" }, { label: "ideal", stroke: () => css("--soft"), dash: [2, 4], points: { show: false } },
        { label: "observed", stroke: colour, width: 2, points: { show: true, size: 7 } },
        { label: "upper", stroke: colour, width: 0, points: { show: false } }, { label: "lower", stroke: colour, width: 0, points: { show: false } }],
      bands: [{ series: [3, 4], fill: colour + "33" }],
      axes: [axis({ label: "predicted probability of membership", values: (u, ticks) => ticks.map(percent) }),
        axis({ label: "observed share of members", size: 64, values: (u, ticks) => ticks.map(percent) })],
    }, [pick("predicted"), pick("predicted"), pick("observed"), pick("high"), pick("low")]);
  });

  const budgets = data.charts.budgets;
  const curves = Object.keys(budgets || {});
  if (curves.length && byId("budgets")) {
    const queries = [...new Set(curves.flatMap((name) => budgets[name].queries))].sort((a, b) => a - b);
    const on = (name, key) => queries.map((q) => { const i = budgets[name].queries.indexOf(q); return i < 0 ? null : budgets[name][key][i]; });
    const series = [{ label: "queries" }], bands = [], values = [queries];
    curves.forEach((name, i) => {
      const stroke = palette[i % palette.length], line = { stroke, spanGaps: true };
      series.push({ ...line, label: name, width: 2, points: { show: true, size: 6 } }, { ...line, label: name + " upper", width: 0, points: { show: false } },
        { ...line, label: name + " lower", width: 0, points: { show: false } });
      bands.push({ series: [series.length - 2, series.length - 1], fill: stroke + "22" });
      values.push(on(name, "auc"), on(name, "high"), on(name, "low"));
    });
    whenOpen(byId("budgets"), () => show(byId("budgets"), {
      height: 240, series, bands, scales: { x: { time: false, distr: 3 } },
      axes: [axis({ label: "queries a record" }), axis({ label: "AUC", size: 64 })],
    }, values));
    curves.forEach((name, i) => {
      const word = document.createElement("span"), mark = document.createElement("span");
      mark.style.color = palette[i % palette.length];
      mark.append("\u25cf ");
      word.append(mark, name + "\u2003");
      byId("budget-names").append(word);
    });
  }

  const resize = () => charts.forEach(([chart, node]) => chart.setSize({ width: width(node), height: chart.height }));
  // What overflows is reached by keyboard; what does not is no stop on the way
  const markScrollers = () => document.querySelectorAll(".scroll").forEach((box) => {
    if (box.scrollWidth <= box.clientWidth + 1) { ["tabindex", "role", "aria-label"].forEach((name) => box.removeAttribute(name)); return; }
    const caption = box.querySelector("caption");
    Object.entries({ tabindex: "0", role: "region", "aria-label": caption ? caption.textContent : "Table" }).forEach(([name, value]) => box.setAttribute(name, value));
  });
  markScrollers();
  addEventListener("resize", () => { resize(); markScrollers(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach(([chart]) => chart.redraw(false)));

  // Everything is open on paper, and as it was afterwards
  function print(starts) {
    printing = starts;
    const chosen = starts ? "main details:not([open])" : "main details[data-opened]";
    document.querySelectorAll(chosen).forEach((fold) => {
      fold.open = starts;
      fold.toggleAttribute("data-opened", starts);
    });
    resize();
    // The chart of a fold is drawn by an event that comes after this one
    setTimeout(resize, 0);
  }
  addEventListener("beforeprint", () => print(true));
  addEventListener("afterprint", () => print(false));
  matchMedia("print").addEventListener("change", (event) => print(event.matches));
})();
