"use strict";
(() => {
  const { names, audits: packed } = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const palette = ["#1f77b4", "#d95f02", "#2a9d4b", "#c0392b", "#8e5bb5", "#8c6d31", "#d9539b", "#17a2b0"];
  const SCALE = 100000, ROWS = 100, TRENDS = 6, DAY = 86400;
  const word = (i) => names.words[i];
  const limits = (list, at) => list.slice(at, at + 3).map((v) => v / SCALE);
  const audits = packed.map(([id, time, kind, model, title, verdict, series, flags, controls, worst, numbers]) => ({
    id, time, kind: word(kind), model: word(model), title: word(title), verdict: word(verdict), series, flags, controls: word(controls),
    worst: worst.length ? { group: word(worst[0]), limits: limits(worst, 1) } : null,
    numbers: Array.from({ length: numbers.length / 4 }, (_, i) => {
      const [level, metric, fpr] = names.keys[numbers[4 * i]];
      return { level, metric, fpr, limits: limits(numbers, 4 * i + 1) };
    }),
  }));
  const stamp = (time) => new Date(time * 1000).toISOString();
  const shorten = (x) => (Math.abs(x) >= 100 ? String(Math.round(x)) : String(Number(x.toPrecision(3))));
  const write = (metric, change) => (x) => {
    const sign = change && x >= 0 ? "+" : "";
    return sign + (metric === "auc" ? x.toFixed(3) : shorten(100 * x) + (change ? "" : "%"));
  };
  const percent = write("tpr", false);
  const interval = ({ metric, limits: [value, low, high] }, change) => {
    const say = write(metric, change);
    return `${say(value)} (${say(low)} to ${say(high)})${change && metric !== "auc" ? " points" : ""}`;
  };
  const WORDS = { LEAKS_MORE: "LEAKS MORE", NOT_MORE: "NOT MORE", "": "NO POLICY" };
  const TONES = { PASS: "pass", FAIL: "fail", INCONCLUSIVE: "inconclusive", LEAKS_MORE: "fail", NOT_MORE: "pass" };
  const verdictWords = (verdict) => WORDS[verdict] ?? verdict;
  const add = (parent, tag, text, properties) => {
    const node = document.createElement(tag);
    if (text) node.append(text);
    Object.assign(node, properties);
    parent.append(node);
    return node;
  };
  const last = (audit, metric) => audit.numbers.findLast((entry) => entry.metric === metric);
  const distinct = (list) => [...new Set(list)];
  const trendOf = ({ metric, fpr }) => `${metric}|${fpr ?? ""}`;

  // The table
  let shown = ROWS;
  function addRow(body, audit) {
    const change = audit.kind === "comparison", tr = add(body, "tr");
    add(tr, "td", stamp(audit.time).slice(0, 16).replace("T", " "), { className: "date" });
    const title = add(tr, "th", audit.title, { scope: "row" });
    const remarks = [];
    if (audit.series > 1) remarks.push(`series ${audit.series}`);
    if (audit.flags & 4) remarks.push("other model than before");
    if (audit.flags & 8) remarks.push("other records than before");
    if (audit.kind === "sweep") remarks.push("of a comparison of defences");
    if (audit.kind === "canaries") remarks.push("with canaries");
    if (remarks.length) add(title, "span", ` ${remarks.join(", ")}`, { className: "note" });
    const tone = TONES[audit.verdict] ?? "", limited = audit.flags & 2 ? " (limited)" : "";
    add(add(tr, "td"), "span", verdictWords(audit.verdict) + limited, { className: `tag ${tone}` });
    const main = last(audit, "tpr") ?? last(audit, "auc"), auc = last(audit, "auc");
    const rate = main?.fpr ? ` at ${percent(main.fpr)}` : "";
    const cells = [
      [change ? "change" : "members found", main ? (main.metric === "auc" ? "AUC " : "") + interval(main, change) + rate : "", "figures"],
      ["AUC", auc ? interval(auc, change) : "", "figures"],
      ["worst group", audit.worst ? `${audit.worst.group}: ${interval({ metric: "tpr", limits: audit.worst.limits }, false)}` : "", "group"],
      ["controls", audit.controls, "words"],
    ];
    cells.forEach(([label, text, name]) => { add(tr, "td", text, { className: name }).dataset.label = label; });
    const cell = add(tr, "td");
    if (audit.flags & 1) add(cell, "a", "report", { href: `reports/${audit.id}.html` }).setAttribute("aria-label", `report of ${audit.title}, ${stamp(audit.time).slice(0, 10)}`);
  }
  function showTable(chosen) {
    const body = document.createDocumentFragment();
    chosen.slice(0, shown).forEach((audit) => addRow(body, audit));
    byId("rows").replaceChildren(body);
    const some = chosen.length > shown ? ` The newest ${shown} are listed.` : "";
    byId("count").textContent = `${chosen.length} of ${audits.length} audits and comparisons.${some}`;
    byId("more").hidden = chosen.length <= shown;
  }

  const writeDates = (u, ticks, axis, space, step) => ticks.map((time) => (step < DAY ? stamp(time).slice(5, 16).replace("T", " ") : stamp(time).slice(0, 10)));

  // Audits within a day stand one beside the other in their order, as a scale of days would lay them on one another
  function buildTimeAxis(rows) {
    const first = rows[0].time, until = rows.at(-1).time, span = until - first;
    if (span >= DAY) {
      // Audits of one second are kept apart, since a scale needs growing values
      const x = [], room = Math.max(DAY / 2, 0.06 * span);
      rows.forEach((audit) => x.push(Math.max(audit.time, (x.at(-1) ?? -1) + 0.001)));
      return { x, scale: { range: [first - room, x.at(-1) + room] }, axis: { space: 100, values: writeDates }, digits: 10 };
    }
    const minutes = rows.map((audit) => stamp(audit.time).slice(11, 16)), digits = distinct(minutes).length < rows.length ? 19 : 16;
    const days = distinct([first, until].map((time) => stamp(time).slice(0, 10))).join(" to ");
    const values = (u, ticks) => ticks.map((i) => (rows[i - 1] ? stamp(rows[i - 1].time).slice(11, digits) : ""));
    return {
      x: rows.map((_, i) => i + 1), digits, scale: { time: false, range: [0.5, rows.length + 0.5] },
      axis: { space: digits === 16 ? 50 : 66, size: 36, values, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000], label: `${days}, in order, time of day in UTC`, labelSize: 22, labelFont: "13px system-ui, sans-serif" },
    };
  }

  // The trends: one figure a model, one line a level of access
  let charts = [];
  function collectLines(rows) {
    const lines = new Map(), several = rows.some((audit) => audit.series > 1), level = byId("level").value;
    rows.forEach((audit, i) => audit.numbers.forEach((entry) => {
      if (trendOf(entry) !== byId("number").value || (level && entry.level !== level)) return;
      const name = several ? `${entry.level}, series ${audit.series}` : entry.level;
      if (!lines.has(name)) lines.set(name, { name, series: audit.series, values: Array(rows.length).fill(null) });
      lines.get(name).values[i] = entry.limits;
    }));
    return [...lines.values()].map((line, i) => ({ ...line, colour: palette[i % palette.length], dash: i >= palette.length ? [6, 4] : [] }));
  }
  function drawLines(u, x, lines) {
    const { ctx } = u, ratio = devicePixelRatio || 1, { left, top, width, height } = u.bbox;
    ctx.save();
    ctx.beginPath();
    ctx.rect(left, top, width, height);
    ctx.clip();
    ctx.lineWidth = 2 * ratio;
    lines.forEach((line, k) => {
      // Levels stand side by side, or their intervals would cover one another
      const aside = (k - (lines.length - 1) / 2) * Math.min(5, 40 / lines.length) * ratio;
      const at = (i, part) => [u.valToPos(x[i], "x", true) + aside, u.valToPos(line.values[i][part], "y", true)];
      const here = x.map((_, i) => i).filter((i) => line.values[i]);
      ctx.strokeStyle = ctx.fillStyle = line.colour;
      ctx.setLineDash(line.dash.map((v) => v * ratio));
      ctx.beginPath();
      here.forEach((i) => ctx.lineTo(...at(i, 0)));
      ctx.stroke();
      ctx.setLineDash([]);
      here.forEach((i) => {
        const [px, py] = at(i, 0);
        ctx.globalAlpha = 0.55;
        ctx.beginPath();
        ctx.moveTo(...at(i, 1));
        ctx.lineTo(...at(i, 2));
        ctx.stroke();
        ctx.globalAlpha = 1;
        ctx.beginPath();
        ctx.arc(px, py, 3.5 * ratio, 0, 2 * Math.PI);
        ctx.fill();
      });
    });
    ctx.restore();
  }
  function addKeys(parent, lines) {
    const list = add(parent, "ul", "", { className: "keys" });
    lines.forEach((line) => {
      const swatch = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      const stroke = document.createElementNS("http://www.w3.org/2000/svg", "line");
      Object.entries({ width: 22, height: 8, "aria-hidden": "true" }).forEach(([key, value]) => swatch.setAttribute(key, value));
      Object.entries({ x1: 0, y1: 4, x2: 22, y2: 4, stroke: line.colour, "stroke-width": 3, "stroke-dasharray": line.dash.join(" ") || "none" })
        .forEach(([key, value]) => stroke.setAttribute(key, value));
      swatch.append(stroke);
      const item = add(list, "li");
      item.append(swatch, line.name);
    });
  }
  function addTrend(model, rows) {
    const metric = byId("number").value.split("|")[0], say = write(metric, false);
    const time = buildTimeAxis(rows), { x } = time, lines = collectLines(rows);
    const figure = add(byId("trends"), "div", "", { className: "trend" });
    add(figure, "h3", model);
    if (!lines.length) { add(figure, "p", "No audit chosen has this number.", { className: "note" }); return; }
    const node = add(figure, "div", "", { className: "chart" }), hover = add(figure, "p", "", { className: "note hover" });
    addKeys(figure, lines);
    const points = lines.flatMap((line) => line.values.filter(Boolean));
    const low = Math.min(...points.map((v) => v[1])), high = Math.max(...points.map((v) => v[2]));
    const reach = Math.max(high - low, 0.02);
    const floor = metric === "auc" ? Math.max(0, low - 0.1 * reach) : 0, ceiling = Math.min(1.02, high + 0.1 * reach);
    node.setAttribute("role", "img");
    node.setAttribute("aria-label", `${byId("number").selectedOptions[0].text}, ${model}: ` + lines.map((line) => {
      const value = line.values.findLast(Boolean);
      return `${line.name} last ${say(value[0])} (${say(value[1])} to ${say(value[2])})`;
    }).join("; "));
    const axis = (extra) => ({ stroke: () => css("--soft"), grid: { stroke: () => css("--grid"), width: 1 }, ticks: { stroke: () => css("--grid") }, ...extra });
    const chart = new uPlot({
      width: Math.max(280, node.clientWidth), height: 300, padding: [null, 40, null, null], cursor: { y: false }, legend: { show: false },
      tzDate: (time) => uPlot.tzDate(new Date(time * 1000), "Etc/UTC"),
      scales: { x: time.scale, y: { range: [floor, ceiling] } },
      series: [{}, ...lines.map((line) => ({ label: line.name, stroke: line.colour, paths: () => null, points: { show: false } }))],
      axes: [axis(time.axis), axis({ size: 64, values: (u, ticks) => ticks.map(say) })],
      hooks: {
        draw: [(u) => drawLines(u, x, lines)],
        setCursor: [(u) => {
          const i = u.cursor.idx;
          if (i === null || i === undefined) return;
          const parts = lines.filter((line) => line.values[i]).map((line) => `${line.name} ${interval({ metric, limits: line.values[i] }, false)}`);
          hover.textContent = `${stamp(rows[i].time).slice(0, time.digits).replace("T", " ")}, ${rows[i].title}: ${parts.join("; ")}`;
        }],
      },
    }, [x, ...lines.map((line) => line.values.map((v) => (v ? v[0] : null)))], node);
    charts.push([chart, node]);
  }
  function showTrends(chosen) {
    charts.forEach(([chart]) => chart.destroy());
    charts = [];
    byId("trends").replaceChildren();
    const rows = chosen.filter((audit) => audit.kind !== "comparison");
    const models = distinct(rows.map((audit) => audit.model));
    models.slice(0, TRENDS).forEach((model) => addTrend(model, rows.filter((audit) => audit.model === model).reverse()));
    byId("trend-note").textContent = models.length > TRENDS
      ? `The ${TRENDS} models audited last are drawn, of ${models.length}. Choose a model to see its own trend.` : "";
  }

  // What is chosen
  function show() {
    const model = byId("model").value, verdict = byId("verdict").value, from = byId("from").value, to = byId("to").value;
    const chosen = audits.filter((audit) => {
      const day = stamp(audit.time).slice(0, 10);
      return (!model || audit.model === word(Number(model) - 1)) && (!verdict || verdictWords(audit.verdict) === verdict)
        && (!from || day >= from) && (!to || day <= to);
    });
    showTable(chosen);
    showTrends(chosen);
  }
  const offer = (id, entries) => entries.forEach(([text, value]) => byId(id).append(new Option(text, value)));
  const index = new Map(names.words.map((text, i) => [text, i]));
  offer("model", distinct(audits.map((audit) => audit.model)).sort().map((name) => [name, index.get(name) + 1]));
  offer("verdict", distinct(audits.map((audit) => verdictWords(audit.verdict))).sort().map((name) => [name, name]));
  const own = audits.filter((audit) => audit.kind !== "comparison").flatMap((audit) => audit.numbers);
  offer("level", distinct(own.map((entry) => entry.level)).map((name) => [name, name]));
  // The number that most audits have comes first
  const counts = new Map();
  own.forEach((entry) => counts.set(trendOf(entry), { entry, n: (counts.get(trendOf(entry))?.n ?? 0) + 1 }));
  const order = [...counts.values()].sort((a, b) => (a.entry.metric === "auc") - (b.entry.metric === "auc") || b.n - a.n);
  offer("number", order.map(({ entry }) => [entry.metric === "auc" ? "AUC" : `members found at ${percent(entry.fpr)} false positives`, trendOf(entry)]));
  ["model", "verdict", "from", "to", "number", "level"].forEach((id) => byId(id).addEventListener("change", () => { shown = ROWS; show(); }));
  byId("more").addEventListener("click", () => { shown += ROWS; show(); });
  document.body.classList.remove("no-script");
  show();
  addEventListener("resize", () => charts.forEach(([chart, node]) => chart.setSize({ width: Math.max(280, node.clientWidth), height: 300 })));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach(([chart]) => chart.redraw(false)));
})();
