// The planner: the formulas of `polyglance law plan` in the page, for every position of the sliders. A law is a sum of
// power terms in natural logarithms; its draws give the intervals. Nothing is fetched.
(() => {
  const root = document.getElementById("planner");
  if (!root) return;
  const data = JSON.parse(document.getElementById("planner-data").textContent);
  const state = { law: 0, ...data.defaults };
  const byId = (id) => document.getElementById(`planner-${id}`);

  // ---- the law ----
  const logSum = (logs) => {
    const top = Math.max(...logs);
    return top === -Infinity ? top : top + Math.log(logs.reduce((sum, log) => sum + Math.exp(log - top), 0));
  };
  const logTerm = (term, theta, values) =>
    term.exponents.reduce((sum, [name, at, sign]) => sum + sign * theta[at] * Math.log(values[name]), theta[term.amplitude]);
  const logMean = (law, theta, values) => logSum(law.terms.map((term) => logTerm(term, theta, values)));
  const solve = (law, theta, values, logTarget) => {
    const at = { ...values, [law.data]: 1 };
    const logs = law.terms.map((term) => logTerm(term, theta, at));
    const index = law.terms.findIndex((term) => term.exponents.some(([name]) => name === law.data));
    const left = logs.reduce((rest, log, i) => (i === index ? rest : rest - Math.exp(log - logTarget)), 1);
    const [, exponent, sign] = law.terms[index].exponents.find(([name]) => name === law.data);
    const slope = sign * theta[exponent];
    return left > 0 && slope < 0 ? (Math.log(left) + logTarget - logs[index]) / slope : Infinity;
  };
  const quantile = (sorted, share) => {
    const place = sorted.length * share - 1;
    const below = Math.floor(place);
    return sorted[Math.min(Math.max(place === below ? below : below + 1, 0), sorted.length - 1)];
  };
  // The interval of one quantity: `make_estimate` of polyglance.laws.intervals.
  const estimate = (fit, value, draws, map = Math.exp) => {
    const known = Number.isFinite(value) ? value : null;
    const ends = [null, null];
    if (draws.length) {
      const wide = draws.map((draw) =>
        known === null || !Number.isFinite(draw) ? draw : known + fit.spread * (draw - known));
      const sorted = Float64Array.from(wide).sort();
      const tail = (1 - fit.confidence) / 2;
      [tail, 1 - tail].forEach((share, i) => {
        let end = quantile(sorted, share);
        if (known !== null) end = i ? Math.max(end, known) : Math.min(end, known);
        ends[i] = Number.isFinite(end) ? map(end) : null;
      });
    }
    return { value: known === null ? null : map(known), low: ends[0], high: ends[1] };
  };
  const scoreLog = (score, theta, loss) => {
    const bend = theta[1] * (loss - theta[2]);
    return theta[0] - (bend > 0 ? bend + Math.log1p(Math.exp(-bend)) : Math.log1p(Math.exp(bend)));
  };
  const scoreAt = (score, loss, lossDraws) => {
    const draws = score.draws.map((theta, r) =>
      scoreLog(score, theta, lossDraws.length ? lossDraws[r % lossDraws.length] : loss));
    return estimate(score, scoreLog(score, score.theta, loss), draws);
  };

  // ---- a model's answer ----
  const cellsRatio = (law) => (law.cells ? (law.cells + state.languages - law.languages) / law.cells : 1);
  const rates = (law, model) => {
    const ratio = cellsRatio(law);
    const hours = model.speed ? ratio / (model.speed * (model.perGpu ? state.gpus : 1) * 3600) : null;
    const gpuHours = hours === null ? null : hours * state.gpus;
    return {
      samples: ratio,
      compute: ratio * model.F * (1 + model.P_t / model.P),
      hours,
      gpuHours,
      money: gpuHours === null ? null : gpuHours * state.price,
    };
  };
  const measure = (law) => (law.models.every((model) => model.speed) ? "money" : "compute");
  const valuesOf = (law, model) => ({
    ...model.inputs,
    [law.size]: model.P,
    ...(law.start && state.T !== null && model.name === state.model ? { [law.start]: state.T } : {}),
  });
  const beyond = (law, values) =>
    Math.max(0, ...Object.entries(law.ranges).map(([name, [low, high]]) =>
      Math.max(Math.log10(values[name] / high), Math.log10(low / values[name]))));
  const lossAt = (law, values) => {
    const draws = law.draws.map((theta) => logMean(law, theta, values));
    return { loss: estimate(law, logMean(law, law.theta, values), draws), draws: draws.map(Math.exp) };
  };
  const answer = (law, model) => {
    const cost = rates(law, model);
    const values = valuesOf(law, model);
    const logTarget = Math.log(state.target);
    const needed = solve(law, law.theta, values, logTarget);
    const draws = law.draws.map((theta) => solve(law, theta, values, logTarget));
    const scale = (rate) =>
      rate === null ? null : estimate(law, needed + Math.log(rate), draws.map((draw) => draw + Math.log(rate)));
    const amount = state.budget / cost[measure(law)];
    const at = { ...values, [law.data]: amount };
    const bought = lossAt(law, at);
    return {
      model,
      target: {
        samples: scale(cost.samples), compute: scale(cost.compute), hours: scale(cost.hours),
        gpuHours: scale(cost.gpuHours), money: scale(cost.money),
        score: law.score ? scoreAt(law.score, state.target, []) : null,
        beyond: Number.isFinite(needed) ? beyond(law, { ...values, [law.data]: Math.exp(needed) }) : null,
      },
      budget: {
        samples: amount * cost.samples, hours: cost.hours === null ? null : amount * cost.hours,
        compute: amount * cost.compute, loss: bought.loss,
        score: law.score ? scoreAt(law.score, bought.loss.value, bought.draws) : null,
        beyond: beyond(law, at),
      },
    };
  };

  // ---- words ----
  const escape = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
  const short = (value) => {
    if (value === null || value === undefined) return "–";
    if (value >= 1e15) return "> 10¹⁵";
    for (const [limit, unit] of [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e4, "k"]]) {
      if (value >= limit * 0.9995) {
        const scaled = value / (unit === "k" ? 1e3 : limit);
        return `${scaled >= 999.5 ? Math.round(scaled) : Number(scaled.toPrecision(3))}${unit}`;
      }
    }
    if (value >= 999.5) return Math.round(value).toLocaleString("en");
    return String(Number(value.toPrecision(3)));
  };
  const digits = (value, number) => (value >= 0.001 ? String(Number(value.toPrecision(number))) : value.toExponential(0));
  const showLoss = (value) => digits(value, 3);
  const loss = (value) => (value === null ? "–" : value >= 0.1 ? value.toFixed(2) : digits(value, 2));
  const band = (one, show) =>
    one.low === null && one.high === null ? "" : `${show(one.low)} to ${one.high === null ? "no end" : show(one.high)}`;
  const outside = (decades) =>
    decades === null ? "" : decades >= 0.005 ? `extrapolated: ${decades.toFixed(2)} decades beyond the runs` : "inside the range of the runs";
  const currency = () => state.currency || "money";

  // ---- the answers in words and in the table ----
  const tile = (id, name, one, show, unit = "") => {
    const exact = one && typeof one === "object" ? one : { value: one, low: null, high: null };
    const text = exact.value === null ? "out of reach" : `${show(exact.value)}${unit}`;
    const attributes = ["value", "low", "high"].map((key) => `data-${key}="${exact[key] ?? ""}"`).join(" ");
    const detail = band(exact, show);
    return `<div><dt>${name}</dt><dd class="value" id="planner-${id}" ${attributes}>${text}</dd>` +
      `<dd class="detail">${detail}</dd></div>`;
  };
  const drawAnswers = (law, chosen) => {
    const { target, budget, model } = chosen;
    const has = measure(law) === "money";
    const cost = (prefix, one) => has
      ? [tile(`${prefix}-hours`, `hours on ${state.gpus} GPU${state.gpus === 1 ? "" : "s"}`, one.hours, short),
        ...(one.gpuHours && state.gpus > 1 ? [tile(`${prefix}-gpu-hours`, "GPU-hours", one.gpuHours, short)] : []),
        ...(one.money ? [tile(`${prefix}-money`, currency(), one.money, short)] : [])]
      : [tile(`${prefix}-compute`, "compute, GMAC", one.compute, short)];
    const score = (prefix, one) => (one.score ? [tile(`${prefix}-score`, escape(law.score.name), one.score, short)] : []);
    byId("target-head").textContent = `To reach a loss of ${loss(state.target)} with ${model.name}`;
    byId("target-answer").innerHTML =
      [tile("target-samples", "samples", target.samples, short), ...cost("target", target), ...score("target", target)].join("");
    byId("target-note").textContent = outside(target.beyond);
    byId("budget-head").textContent = `${short(state.budget)} ${has ? currency() : "GMAC"} buy with ${model.name}`;
    byId("budget-answer").innerHTML =
      [tile("budget-loss", `loss, ${escape(law.group)}`, budget.loss, loss), ...score("budget", budget),
        tile("budget-samples", "samples", budget.samples, short), ...cost("budget", { ...budget, money: null })].join("");
    byId("budget-note").textContent = outside(budget.beyond);
  };
  const drawTable = (law, answers) => {
    const has = measure(law) === "money";
    const price = has ? ["GPU-hours", currency()] : ["GMAC"];
    byId("models-head").innerHTML = ["model", law.start || "", "samples to the target", ...price, "loss for the budget",
      ...(law.score ? [law.score.name] : [])].filter(Boolean).map((name, i) =>
      `<th scope="col"${i ? ' class="number"' : ""}>${escape(name)}</th>`).join("");
    byId("models-body").innerHTML = answers.map(({ model, target, budget }) => {
      const marked = (text, decades) => (decades > 0.004 ? `${text} <abbr title="${outside(decades)}">*</abbr>` : text);
      const numbers = [
        ...(law.start ? [short(valuesOf(law, model)[law.start])] : []),
        target.samples.value === null ? "out of reach" : marked(short(target.samples.value), target.beyond),
        ...(has ? [short(target.gpuHours.value), short(target.money.value)] : [short(target.compute.value)]),
        `${marked(loss(budget.loss.value), budget.beyond)} <span class="interval">${band(budget.loss, loss)}</span>`,
        ...(law.score ? [short(budget.score.value)] : []),
      ];
      const isChosen = model.name === state.model;
      return `<tr${isChosen ? ' class="best"' : ""}><th scope="row"><button type="button" data-model="${escape(model.name)}"` +
        ` aria-pressed="${isChosen}">${escape(model.name)}</button></th>` +
        numbers.map((text) => `<td class="number">${text}</td>`).join("") + "</tr>";
    }).join("");
  };

  // ---- figures ----
  const charts = {};
  const steps = (low, high, number) => { // round numbers at equal distances
    const power = 10 ** Math.floor(Math.log10((high - low) / number));
    const step = [1, 2, 2.5, 5, 10].map((digit) => digit * power).find((one) => (high - low) / one <= number);
    const first = Math.ceil(low / step - 1e-9);
    return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(6)));
  };
  const ticks = (low, high) => {
    for (const digits of [[1], [1, 3]]) {
      const all = [];
      for (let power = -6; power < 40; power += 1) for (const digit of digits) all.push(digit * 10 ** power);
      const inside = all.filter((tick) => tick >= low * 0.9999 && tick <= high * 1.0001);
      if (inside.length >= 3) return inside.filter((_, i) => i % Math.ceil(inside.length / 6) === 0);
    }
    return steps(low, high, 6);
  };
  const makeChart = (id, x, y) => {
    const svg = byId(id);
    const width = Math.max(svg.clientWidth || svg.parentElement.clientWidth || 640, 260);
    const height = Math.round(Math.min(360, Math.max(260, width * 0.62)));
    const box = { left: 52, right: width - 12, top: 14, bottom: height - 44 };
    const place = (axis, from, to) => (value) => axis.log
      ? from + ((to - from) * Math.log(value / axis.low)) / Math.log(axis.high / axis.low)
      : from + ((to - from) * (value - axis.low)) / (axis.high - axis.low);
    const chart = { svg, id, x, y, width, height, box, px: place(x, box.left, box.right), py: place(y, box.bottom, box.top) };
    chart.inverse = (axis, at, from, to) => {
      const share = Math.min(Math.max((at - from) / (to - from), 0), 1);
      return axis.log ? axis.low * (axis.high / axis.low) ** share : axis.low + (axis.high - axis.low) * share;
    };
    charts[id] = chart;
    return chart;
  };
  const line = (x1, y1, x2, y2, style) => `<line x1="${x1.toFixed(1)}" y1="${y1.toFixed(1)}" x2="${x2.toFixed(1)}" y2="${y2.toFixed(1)}" style="${style}"/>`;
  const label = (x, y, text, anchor = "start", style = "") =>
    `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}" style="font-size:12px;${style}">${escape(text)}</text>`;
  const path = (chart, points, style, close = false) => {
    const parts = points.filter(([, y]) => Number.isFinite(y)).map(([x, y], i) =>
      `${i ? "L" : "M"}${chart.px(x).toFixed(1)} ${chart.py(y).toFixed(1)}`);
    return parts.length ? `<path d="${parts.join("")}${close ? "Z" : ""}" style="${style}" clip-path="url(#${chart.id}-clip)"/>` : "";
  };
  const frame = (chart, inner) => {
    const { box, x, y } = chart;
    const xs = ticks(x.low, x.high);
    const fit = Math.max(2, Math.floor((box.right - box.left) / 56));
    const shownX = xs.filter((_, i) => i % Math.ceil(xs.length / fit) === 0);
    const ys = y.log ? ticks(y.low, y.high) : steps(y.low, y.high, 6);
    const rule = "stroke:var(--rule);stroke-width:1";
    const muted = "fill:var(--muted)";
    chart.svg.setAttribute("viewBox", `0 0 ${chart.width} ${chart.height}`);
    chart.svg.innerHTML = `<clipPath id="${chart.id}-clip"><rect x="${box.left}" y="${box.top}" width="${box.right - box.left}" height="${box.bottom - box.top}"/></clipPath>` +
      ys.map((tick) => line(box.left, chart.py(tick), box.right, chart.py(tick), rule) +
        label(box.left - 6, chart.py(tick) + 4, y.show(tick), "end", muted)).join("") +
      shownX.map((tick) => line(chart.px(tick), box.bottom, chart.px(tick), box.bottom + 4, "stroke:var(--muted)") +
        label(chart.px(tick), box.bottom + 18, x.show(tick), "middle", muted)).join("") +
      line(box.left, box.bottom, box.right, box.bottom, "stroke:var(--muted)") +
      label((box.left + box.right) / 2, chart.height - 6, x.name, "middle") +
      `<text transform="translate(12 ${(box.top + box.bottom) / 2}) rotate(-90)" text-anchor="middle" style="font-size:12px">${escape(y.name)}</text>` +
      inner + '<g class="cross"></g>';
  };
  const space = (low, high, number = 60) => Array.from({ length: number }, (_, i) => low * (high / low) ** (i / (number - 1)));
  const shade = (chart, from, to) => from >= to ? "" :
    `<rect x="${chart.px(from).toFixed(1)}" y="${chart.box.top}" width="${(chart.px(to) - chart.px(from)).toFixed(1)}" height="${chart.box.bottom - chart.box.top}" style="fill:var(--note)"/>`;

  const drawLoss = (law, chosen) => {
    const ratio = cellsRatio(law);
    const [low, high] = law.ranges[law.data] || [1e5, 1e7];
    const values = valuesOf(law, chosen.model);
    const xs = space(low * ratio * 0.3, high * ratio * 300);
    const rows = xs.map((samples) => [samples, lossAt(law, { ...values, [law.data]: samples / ratio }).loss]);
    const all = rows.flatMap(([, one]) => [one.value, one.low, one.high]).concat(state.target).filter(Number.isFinite);
    const chart = makeChart("loss",
      { name: `samples${ratio === 1 ? "" : " over all cells"}`, low: xs[0], high: xs.at(-1), log: true, show: short },
      { name: "loss, nats per token", low: Math.min(...all) / 1.03, high: Math.max(...all) * 1.03, log: true, show: showLoss });
    const edges = [...rows.map(([x, one]) => [x, one.low]), ...rows.map(([x, one]) => [x, one.high]).reverse()];
    const bought = chosen.budget;
    const endX = chart.px(high * ratio);
    frame(chart,
      shade(chart, chart.x.low, low * ratio) + shade(chart, high * ratio, chart.x.high) +
      (law.draws.length ? path(chart, edges, "fill:var(--s0);opacity:0.16", true) : "") +
      line(endX, chart.box.top, endX, chart.box.bottom, "stroke:var(--note-edge);stroke-dasharray:4 3") +
      label(endX + 5, chart.box.top + 12, "extrapolation", "start", "fill:var(--muted)") +
      path(chart, rows.map(([x, one]) => [x, one.value]), "fill:none;stroke:var(--s0);stroke-width:2") +
      line(chart.box.left, chart.py(state.target), chart.box.right, chart.py(state.target), "stroke:var(--s1);stroke-width:2;cursor:ns-resize") +
      label(chart.box.right, chart.py(state.target) - 5, `target ${loss(state.target)}`, "end", "fill:var(--s1)") +
      (bought.samples >= chart.x.low && bought.samples <= chart.x.high
        ? line(chart.px(bought.samples), chart.box.top, chart.px(bought.samples), chart.box.bottom, "stroke:var(--s2);stroke-width:1.5") +
          label(chart.px(bought.samples) - 5, chart.box.bottom - 6, "budget", "end", "fill:var(--s2)") : ""));
    chart.rows = rows.map(([x, one]) => [x, one.value, one.low, one.high]);
    chart.head = ["samples", "loss", "low", "high"];
    chart.tell = ([x, y, from, to]) => `${short(x)} samples: ${loss(y)}${from === null ? "" : ` (${loss(from)} to ${loss(to)})`}`;
    chart.drag = (y) => set({ target: Number(y.toPrecision(4)) });
  };

  const drawIsoloss = (law, chosen) => {
    const ratio = cellsRatio(law);
    const [low, high] = law.ranges[law.data] || [1e5, 1e7];
    const sizes = law.models.map((model) => model.P);
    const bounds = law.ranges[law.size] || [Math.min(...sizes), Math.max(...sizes)];
    const ps = space(Math.min(bounds[0], ...sizes) / 2, Math.max(bounds[1], ...sizes) * 2, 60);
    const values = valuesOf(law, chosen.model);
    const chart = makeChart("isoloss",
      { name: "samples", low: low * ratio * 0.3, high: high * ratio * 300, log: true, show: short },
      { name: "parameters", low: ps[0], high: ps.at(-1), log: true, show: short });
    const at = (P, samples) => Math.exp(logMean(law, law.theta, { ...values, [law.size]: P, [law.data]: samples / ratio }));
    const [worst, best] = [at(ps[0], chart.x.low), at(ps.at(-1), chart.x.high)];
    const levels = steps(best, worst, 9).filter((level) => Math.abs(Math.log(level / state.target)) > 0.02);
    const curve = (level) => ps.map((P) => [Math.exp(solve(law, law.theta, { ...values, [law.size]: P }, Math.log(level))) * ratio, P])
      .filter(([x]) => Number.isFinite(x));
    const rows = [...levels, state.target].flatMap((level) => curve(level).map(([x, P]) => [level, x, P]));
    const draw = (level, style, colour) => {
      const points = curve(level).filter(([x]) => x >= chart.x.low && x <= chart.x.high);
      if (!points.length) return "";
      const [x, P] = points[Math.floor(points.length / 2)];
      if (chart.px(x) > chart.box.right - 30 || chart.py(P) < chart.box.top + 14) return path(chart, points, `fill:none;${style}`);
      return path(chart, points, `fill:none;${style}`) + label(chart.px(x) + 4, chart.py(P) - 4, loss(level), "start", `fill:${colour};paint-order:stroke;stroke:var(--paper);stroke-width:3px`);
    };
    const inner = `<rect x="${chart.px(low * ratio)}" y="${chart.py(bounds[1])}" width="${chart.px(high * ratio) - chart.px(low * ratio)}" height="${Math.max(chart.py(bounds[0]) - chart.py(bounds[1]), 1)}" style="fill:var(--paper);stroke:var(--note-edge);stroke-dasharray:4 3"/>`;
    const needed = chosen.target.samples.value;
    frame(chart, shade(chart, chart.x.low, chart.x.high) + inner +
      levels.map((level) => draw(level, "stroke:var(--muted);stroke-width:1", "var(--muted)")).join("") +
      draw(state.target, "stroke:var(--s1);stroke-width:2.5", "var(--s1)") +
      law.models.map((model) => line(chart.box.left, chart.py(model.P), chart.box.left + 8, chart.py(model.P), "stroke:var(--s0);stroke-width:2") +
        label(chart.box.left + 11, chart.py(model.P) + 4, law.models.length > 6 && model.name !== state.model ? "" : model.name, "start", `fill:var(--s0);paint-order:stroke;stroke:var(--card);stroke-width:3px${model.name === state.model ? ";font-weight:600" : ""}`)).join("") +
      (needed >= chart.x.low && needed <= chart.x.high
        ? `<circle cx="${chart.px(needed)}" cy="${chart.py(chosen.model.P)}" r="5" style="fill:var(--s1)"/>` : ""));
    chart.rows = rows;
    chart.head = ["loss", "samples", "parameters"];
    chart.tell = null;
    chart.point = (x, P) => `${short(x)} samples, ${short(P)} parameters: loss ${loss(at(P, x))}${beyond(law, { ...values, [law.size]: P, [law.data]: x / ratio }) > 0.004 ? ", extrapolated" : ""}`;
  };

  const drawScore = (law, chosen) => {
    byId("score-figure").hidden = !law.score;
    if (!law.score) return;
    const bought = chosen.budget.loss.value;
    const lows = [law.score.range[0], state.target, bought].filter(Number.isFinite);
    const highs = [law.score.range[1], state.target, bought].filter(Number.isFinite);
    const xs = space(Math.min(...lows) * 0.95, Math.max(...highs) * 1.05, 50);
    const rows = xs.map((x) => { const one = scoreAt(law.score, x, []); return [x, one.value, one.low, one.high]; });
    const top = Math.max(...rows.flatMap(([, y, , high]) => [y, high]).filter(Number.isFinite));
    const chart = makeChart("score",
      { name: `loss, ${law.group}`, low: xs[0], high: xs.at(-1), log: true, show: showLoss },
      { name: law.score.name, low: 0, high: top * 1.05, log: false, show: (v) => short(Number(v.toFixed(0))) });
    const edges = [...rows.map(([x, , low]) => [x, low]), ...rows.map(([x, , , high]) => [x, high]).reverse()];
    frame(chart, shade(chart, chart.x.low, law.score.range[0]) + shade(chart, law.score.range[1], chart.x.high) +
      (law.score.draws.length ? path(chart, edges, "fill:var(--s0);opacity:0.16", true) : "") +
      path(chart, rows.map(([x, y]) => [x, y]), "fill:none;stroke:var(--s0);stroke-width:2") +
      law.score.points.map(([x, y, name]) => `<circle cx="${chart.px(x)}" cy="${chart.py(y)}" r="4" style="fill:var(--ink)"><title>${escape(name)}: ${short(y)}</title></circle>`).join("") +
      line(chart.px(state.target), chart.box.top, chart.px(state.target), chart.box.bottom, "stroke:var(--s1);stroke-width:2") +
      (Number.isFinite(bought) ? line(chart.px(bought), chart.box.top, chart.px(bought), chart.box.bottom, "stroke:var(--s2);stroke-width:1.5") : ""));
    chart.rows = rows;
    chart.head = ["loss", "score", "low", "high"];
    chart.tell = ([x, y, from, to]) => `loss ${loss(x)}: ${short(y)}${from === null ? "" : ` (${short(from)} to ${short(to)})`}`;
  };

  // ---- reading values with the pointer, a finger or the keys ----
  const cross = (chart, x, y) => {
    const at = chart.px(x);
    const style = "stroke:var(--ink);stroke-width:1;stroke-dasharray:2 2";
    chart.svg.querySelector(".cross").innerHTML = line(at, chart.box.top, at, chart.box.bottom, style) +
      (y === null ? "" : line(chart.box.left, chart.py(y), chart.box.right, chart.py(y), style));
  };
  const tell = (chart, x, y) => {
    if (chart.tell) {
      const row = chart.rows.reduce((best, one) => (Math.abs(Math.log(one[0] / x)) < Math.abs(Math.log(best[0] / x)) ? one : best));
      chart.at = row[0];
      cross(chart, row[0], null);
      byId(`${chart.id}-value`).textContent = chart.tell(row);
    } else {
      [chart.at, chart.atY] = [x, y];
      cross(chart, x, y);
      byId(`${chart.id}-value`).textContent = chart.point(x, y);
    }
  };
  const pointAt = (chart, event) => {
    const place = chart.svg.getBoundingClientRect();
    const scale = chart.width / place.width;
    const [left, top] = [(event.clientX - place.left) * scale, (event.clientY - place.top) * scale];
    return [chart.inverse(chart.x, left, chart.box.left, chart.box.right), chart.inverse(chart.y, top, chart.box.bottom, chart.box.top)];
  };
  const follow = (id) => {
    const svg = byId(id);
    let dragging = false;
    svg.addEventListener("pointerdown", (event) => {
      const chart = charts[id];
      const [x, y] = pointAt(chart, event);
      dragging = Boolean(chart.drag) && Math.abs(chart.py(y) - chart.py(state.target)) < 14;
      if (dragging) svg.setPointerCapture(event.pointerId);
      tell(chart, x, y);
    });
    svg.addEventListener("pointermove", (event) => {
      const [x, y] = pointAt(charts[id], event);
      if (dragging) charts[id].drag(y);
      else tell(charts[id], x, y);
    });
    for (const name of ["pointerup", "pointercancel"]) svg.addEventListener(name, () => { dragging = false; });
    svg.addEventListener("keydown", (event) => {
      const chart = charts[id];
      const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: 1, ArrowDown: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const move = (axis, from) => axis.log ? from * (axis.high / axis.low) ** (step / 40) : from + (step * (axis.high - axis.low)) / 40;
      const inside = (axis, value) => Math.min(Math.max(value, axis.low), axis.high);
      const isUp = event.key === "ArrowUp" || event.key === "ArrowDown";
      if (isUp && chart.drag) return chart.drag(move(chart.y, state.target));
      const x = chart.at ?? Math.sqrt(chart.x.low * chart.x.high);
      const y = chart.atY ?? Math.sqrt(Math.max(chart.y.low, 1e-9) * chart.y.high);
      tell(chart, inside(chart.x, isUp ? x : move(chart.x, x)), inside(chart.y, isUp ? move(chart.y, y) : y));
    });
  };

  // ---- downloads ----
  const exportSvg = (chart) => {
    const copy = chart.svg.cloneNode(true);
    const [from, to] = [chart.svg.querySelectorAll("*"), copy.querySelectorAll("*")];
    from.forEach((element, i) => {
      const style = getComputedStyle(element);
      to[i].setAttribute("style", ["fill", "stroke", "stroke-width", "stroke-dasharray", "opacity", "font-size", "font-family", "font-weight", "paint-order"]
        .map((name) => `${name}:${style.getPropertyValue(name)}`).join(";").replaceAll('"', "'"));
    });
    copy.setAttribute("width", chart.width);
    copy.setAttribute("height", chart.height);
    const paper = getComputedStyle(document.body).backgroundColor;
    copy.insertAdjacentHTML("afterbegin", `<rect width="100%" height="100%" style="fill:${paper}"/>`);
    return new XMLSerializer().serializeToString(copy);
  };
  const save = (href, name) => {
    const link = document.createElement("a");
    link.href = href;
    link.download = name;
    link.click();
  };
  const download = (id, kind) => {
    const chart = charts[id];
    const name = `planner-${id}.${kind}`;
    if (kind === "csv") {
      const rows = [chart.head, ...chart.rows].map((row) => row.map((cell) => cell ?? "").join(","));
      return save(`data:text/csv;charset=utf-8,${encodeURIComponent(`${rows.join("\n")}\n`)}`, name);
    }
    const svg = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(exportSvg(chart))}`;
    if (kind === "svg") return save(svg, name);
    const image = new Image();
    image.onload = () => {
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [2 * chart.width, 2 * chart.height];
      canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
      save(canvas.toDataURL("image/png"), name);
    };
    image.src = svg;
  };

  // ---- the controls ----
  const scales = (law) => {
    const [low, high] = law.ranges[law.data] || [1e5, 1e7];
    const values = law.models.map((model) => ({ ...model.inputs, [law.size]: model.P }));
    const at = (samples) => values.map((one) => Math.exp(logMean(law, law.theta, { ...one, [law.data]: samples })));
    const unit = law.models.map((model) => rates(law, model)[measure(law)]);
    return {
      target: [Math.min(...at(high * 1e3)), Math.max(...at(low))],
      budget: [Math.min(...unit) * low * 0.3, Math.max(...unit) * high * 100],
    };
  };
  const show = (law) => {
    const range = scales(law);
    for (const name of ["target", "budget"]) {
      const slider = byId(`${name}-slider`);
      const [low, high] = range[name];
      slider.value = Math.round((1000 * Math.log(state[name] / low)) / Math.log(high / low));
      slider.setAttribute("aria-valuetext", name === "target" ? loss(state.target) : short(state.budget));
    }
    for (const name of ["target", "budget", "languages", "gpus", "price", "currency"]) {
      if (document.activeElement !== byId(name)) byId(name).value = state[name];
    }
    byId("languages-slider").value = state.languages;
    byId("languages-row").hidden = !law.cells;
    byId("cells").textContent = law.cells
      ? `${law.cells + state.languages - law.languages} task-language cells; ${law.cells} behind the law. As many samples for each cell are assumed.` : "";
    const start = byId("T");
    start.closest("label").hidden = !law.start;
    if (law.start && document.activeElement !== start) start.value = state.T ?? valuesOf(law, chosenModel(law))[law.start];
    byId("budget-unit").textContent = measure(law) === "money" ? currency() : "GMAC";
    byId("machine").hidden = measure(law) !== "money";
    byId("model").innerHTML = law.models.map((model) =>
      `<option${model.name === state.model ? " selected" : ""}>${escape(model.name)}</option>`).join("");
    byId("source").textContent = law.source;
    byId("notes").innerHTML = law.notes.map((note) => `<li>${escape(note)}</li>`).join("");
  };
  const chosenModel = (law) => law.models.find((model) => model.name === state.model) ?? law.models[0];
  const render = () => {
    const law = data.laws[state.law];
    state.model = chosenModel(law).name;
    const answers = law.models.map((model) => answer(law, model));
    const chosen = answers.find(({ model }) => model.name === state.model);
    show(law);
    drawAnswers(law, chosen);
    drawTable(law, answers);
    drawLoss(law, chosen);
    drawIsoloss(law, chosen);
    drawScore(law, chosen);
  };
  let waiting = false;
  const set = (change) => {
    Object.assign(state, change);
    if (data.keeps_address) {
      const kept = ["law", "target", "budget", "languages", "model", "T", "gpus", "price", "currency"];
      history.replaceState(null, "", `#${new URLSearchParams(kept.filter((key) => state[key] !== null).map((key) => [key, state[key]]))}`);
    }
    if (waiting) return;
    waiting = true;
    setTimeout(() => { waiting = false; render(); }, 0);
  };
  const number = (text, low, high) => {
    const value = Number(text);
    return text !== "" && Number.isFinite(value) && value >= low && value <= high ? value : null;
  };
  const limits = { target: [0.001, 100], budget: [1e-6, 1e18], languages: [2, 500], gpus: [1, 1e6], price: [1e-6, 1e6], T: [0.01, 100] };
  const readNumber = (name, text) => {
    const value = number(text, ...limits[name]);
    return value !== null && ["languages", "gpus"].includes(name) ? Math.round(value) : value;
  };
  const listen = () => {
    for (const name of Object.keys(limits)) {
      byId(name).addEventListener("input", (event) => {
        const value = readNumber(name, event.target.value);
        event.target.setCustomValidity(value === null ? "a positive number" : "");
        if (value !== null) set({ [name]: value });
      });
      byId(name).addEventListener("change", () => render());
    }
    for (const name of ["target", "budget"]) {
      byId(`${name}-slider`).addEventListener("input", (event) => {
        const [low, high] = scales(data.laws[state.law])[name];
        set({ [name]: Number((low * (high / low) ** (event.target.value / 1000)).toPrecision(3)) });
      });
    }
    byId("languages-slider").addEventListener("input", (event) => set({ languages: Number(event.target.value) }));
    byId("currency").addEventListener("input", (event) => set({ currency: event.target.value.slice(0, 8) }));
    byId("model").addEventListener("change", (event) => set({ model: event.target.value, T: null }));
    byId("models-body").addEventListener("click", (event) => {
      const button = event.target.closest("button[data-model]");
      if (button) set({ model: button.dataset.model, T: null });
    });
    byId("law").addEventListener("change", (event) => set({ ...data.laws[event.target.selectedIndex].defaults, law: event.target.selectedIndex, T: null }));
    root.addEventListener("click", (event) => {
      const button = event.target.closest("button[data-kind]");
      if (button) download(button.dataset.figure, button.dataset.kind);
    });
    ["loss", "isoloss", "score"].forEach(follow);
    window.addEventListener("resize", () => set({}));
  };
  const readAddress = () => {
    if (!data.keeps_address || !location.hash.includes("=")) return;
    for (const [name, text] of new URLSearchParams(location.hash.slice(1))) {
      if (name in limits && readNumber(name, text) !== null) state[name] = readNumber(name, text);
      if (name === "model" || name === "currency") state[name] = text;
      if (name === "law" && data.laws[Number(text)]) state.law = Number(text);
    }
  };
  byId("law").innerHTML = data.laws.map((law) => `<option>${escape(law.name)}</option>`).join("");
  byId("law").closest("label").hidden = data.laws.length < 2;
  Object.assign(state, data.laws[0].defaults, data.defaults);
  readAddress();
  byId("law").selectedIndex = state.law;
  listen();
  render();
  root.dataset.ready = "true";
})();
