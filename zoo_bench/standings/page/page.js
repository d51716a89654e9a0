// What the page does: filter, sort, open a score, draw. Without it the tables are still whole.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const by = (id) => document.getElementById(id);
const all = (query, root = document) => [...root.querySelectorAll(query)];
const NAMESPACE = "http://www.w3.org/2000/svg";

function draw(svg, kind, attributes, text) {
  const element = document.createElementNS(NAMESPACE, kind);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  svg.append(element);
  return element;
}

function filter() {
  const benchmark = by("benchmark").value;
  const metric = by("metric").value;
  const encoder = by("encoder").value.trim().toLowerCase();
  const target = by("target").value.trim().toLowerCase();
  for (const part of all(".benchmark")) part.hidden = Boolean(benchmark) && part.dataset.benchmark !== benchmark;
  for (const its of all("[data-encoder]")) its.hidden = !its.dataset.encoder.toLowerCase().includes(encoder);
  for (const its of all(".grids, .curves")) its.hidden = !its.dataset.target.toLowerCase().includes(target);
  for (const table of all(".board table")) {
    const heads = [...table.tHead.rows[0].cells];
    const hidden = heads.map((head) => head.dataset.target !== undefined && !(
      (metric ? head.dataset.metric === metric : head.dataset.extra === undefined) &&
      head.dataset.target.toLowerCase().includes(target)));
    for (const row of table.rows) [...row.cells].forEach((cell, column) => { cell.hidden = hidden[column]; });
    table.closest(".board").hidden = heads.every((head, column) => head.dataset.target === undefined || hidden[column]);
  }
  const encoders = all("#standings tbody tr").filter((row) => !row.hidden).length;
  by("count").textContent = `${encoders} encoder${encoders === 1 ? "" : "s"}`;
  keep();
  drawCost();
}

// The filters stand in the page's address, so that a link leads to what is seen.
const FILTERS = ["benchmark", "metric", "encoder", "target"];

function keep() {
  const set = FILTERS.filter((id) => by(id).value.trim()).map((id) => [id, by(id).value.trim()]);
  const hash = new URLSearchParams(set).toString();
  history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
}

function restore() {
  const kept = new URLSearchParams(location.hash.slice(1));
  for (const id of FILTERS) if (kept.has(id)) by(id).value = kept.get(id);
}

function sort(head) {
  const table = head.closest("table"), column = head.cellIndex;
  const now = head.getAttribute("aria-sort");
  const order = now ? (now === "ascending" ? "descending" : "ascending") : head.dataset.order;
  for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const value = (row) => row.cells[column].dataset.value;
  const rows = [...table.tBodies[0].rows].sort((one, other) => {
    if (column === 0) return sign * one.cells[0].textContent.localeCompare(other.cells[0].textContent);
    if (value(one) === undefined || value(other) === undefined)
      return (value(one) === undefined) - (value(other) === undefined);
    return sign * (Number(value(one)) - Number(value(other)));
  });
  table.tBodies[0].append(...rows);
}

// About five round numbers from low to high.
function ticks(low, high) {
  const step = 10 ** Math.floor(Math.log10((high - low) / 2 || 1));
  const its = [1, 2, 5, 10].map((factor) => factor * step).find((size) => (high - low) / size <= 6);
  const found = [];
  for (let value = Math.ceil(low / its) * its; value <= high + its * 1e-6; value += its) found.push(Number(value.toPrecision(10)));
  return found;
}

const LEAST = { seconds: 0.01, memory: 1e6, parameters: 1 };  // what less is drawn as; the axis is logarithmic
const UNITS = {
  seconds: (value) => `${value} s`,
  memory: (value) => (value >= 1e9 ? `${value / 1e9} GB` : value >= 1e6 ? `${value / 1e6} MB` : `${value / 1e3} kB`),
  parameters: (value) => (value >= 1e6 ? `${value / 1e6} M` : value >= 1e3 ? `${value / 1e3} k` : `${value}`),
};

// Mean rank against a cost on a logarithmic axis; labels move apart until none hides another.
function drawCost() {
  const svg = by("cost");
  const kind = document.querySelector("[name=cost]:checked").value;
  const benchmark = by("benchmark").value || data.costs[0].benchmark;
  const words = by("encoder").value.trim().toLowerCase();
  const width = Math.max(340, Math.min(1240, svg.parentElement.clientWidth - 40));  // drawn at the size of its text
  svg.setAttribute("viewBox", `0 0 ${width} 340`);
  const end = width - 150;
  const points = data.costs.filter((its) => its.benchmark === benchmark && its[kind] !== null && its.encoder.toLowerCase().includes(words));
  svg.replaceChildren();
  draw(svg, "text", { x: 0, y: 12 }, `mean rank on ${benchmark}`);
  if (!points.length) return void draw(svg, "text", { x: 60, y: 60 }, words ? "no encoder of that name" : "no encoder says this cost");
  const logs = points.map((its) => Math.log10(Math.max(its[kind], LEAST[kind])));
  const [left, right] = [Math.floor(Math.min(...logs)), Math.max(Math.ceil(Math.max(...logs)), Math.floor(Math.min(...logs)) + 1)];
  const worst = Math.ceil(Math.max(2, ...points.map((its) => its.rank)));
  const x = (log) => 40 + (end - 40) * (log - left) / (right - left);
  const y = (rank) => 30 + 265 * (rank - 1) / (worst - 1);
  for (let power = left; power <= right; power++) {
    draw(svg, "line", { class: "grid", x1: x(power), x2: x(power), y1: 24, y2: 302 });
    draw(svg, "text", { x: x(power), y: 320, "text-anchor": "middle" }, UNITS[kind](10 ** power));
  }
  for (const rank of ticks(1, worst)) {
    draw(svg, "line", { class: "grid", x1: 40, x2: end, y1: y(rank), y2: y(rank) });
    draw(svg, "text", { x: 30, y: y(rank) + 4, "text-anchor": "end" }, String(rank));
  }
  const labels = points.map((its, number) => ({ at: [x(logs[number]), y(its.rank)], text: its.encoder, width: 6.4 * its.encoder.length }));
  labels.sort((one, other) => one.at[1] - other.at[1]);
  const placed = [];
  for (const label of labels) {
    const [across, up] = label.at;
    const left = across + 9 + label.width > width ? across - 9 - label.width : across + 9;
    const clear = (top) => placed.every((its) => Math.abs(its.top - top) > 13 || its.left > left + label.width || its.left + its.width < left)
      && labels.every((its) => its === label || Math.abs(its.at[1] - top) > 9 || its.at[0] < left - 4 || its.at[0] > left + label.width);
    const top = [0, 13, -13, 26, -26, 39, -39, 52].map((shift) => up + shift).find(clear) ?? up;
    placed.push({ left, top, width: label.width });
    if (Math.abs(top - up) > 1) draw(svg, "line", { class: "leader", x1: across, y1: up, x2: left < across ? left + label.width + 1 : left - 1, y2: top });
    draw(svg, "text", { class: "name", x: left, y: top + 4 }, label.text);
  }
  for (const label of labels) draw(svg, "circle", { cx: label.at[0], cy: label.at[1], r: 5 });
}

function drawScatter(svg, truth, predicted, epochs, rows) {
  svg.setAttribute("viewBox", "0 0 600 400");
  const [low, high] = [Math.min(...truth, ...predicted), Math.max(...truth, ...predicted)];
  const span = high - low || 1;
  const x = (value) => 60 + 430 * (value - low) / span;
  const y = (value) => 350 - 325 * (value - low) / span;
  for (const tick of ticks(low, high)) {
    draw(svg, "line", { class: "grid", x1: x(tick), x2: x(tick), y1: 25, y2: 350 });
    draw(svg, "line", { class: "grid", x1: 60, x2: 490, y1: y(tick), y2: y(tick) });
    draw(svg, "text", { x: x(tick), y: 368, "text-anchor": "middle" }, String(tick));
    draw(svg, "text", { x: 52, y: y(tick) + 4, "text-anchor": "end" }, String(tick));
  }
  draw(svg, "text", { x: 490, y: 388, "text-anchor": "end" }, "true");
  draw(svg, "text", { x: 10, y: 14 }, "predicted");
  draw(svg, "line", { class: "diagonal", x1: x(low), y1: y(low), x2: x(high), y2: y(high) });
  const kinds = [...new Set(epochs)].sort((one, other) => one - other);
  const colour = (epoch) => `color-mix(in oklab, var(--hot) ${20 + 80 * kinds.indexOf(epoch) / Math.max(1, kinds.length - 1)}%, var(--early))`;
  truth.forEach((value, place) => draw(svg, "circle", { cx: x(value), cy: y(predicted[place]), r: 3.5,
    style: kinds.length > 1 ? `fill: ${colour(epochs[place])}` : "" }));
  if (kinds.length > 1) {
    const some = kinds.length > 8 ? [0, 1, 2, 3, 4, 5].map((n) => kinds[Math.round(n * (kinds.length - 1) / 5)]) : kinds;
    draw(svg, "text", { x: 510, y: 34 }, "epoch");
    some.forEach((epoch, place) => {
      draw(svg, "circle", { cx: 516, cy: 50 + 18 * place, r: 4.5, style: `fill: ${colour(epoch)}` });
      draw(svg, "text", { x: 528, y: 54 + 18 * place }, String(epoch));
    });
  }
  if (rows > truth.length) draw(svg, "text", { x: 60, y: 388 }, `${truth.length} of ${rows.toLocaleString("en")} test rows, drawn at random`);
  svg.setAttribute("aria-label", `${truth.length} of ${rows} test rows, predicted against true, from ${low} to ${high}`);
}

function drawTaken(svg, names, counts) {
  const size = Math.min(70, 300 / names.length);
  draw(svg, "text", { x: 130, y: 14 }, "taken for");
  names.forEach((name, row) => {
    const total = counts[row].reduce((sum, its) => sum + its, 0) || 1;
    draw(svg, "text", { x: 120, y: 44 + size * (row + .5), "text-anchor": "end" }, name);
    draw(svg, "text", { x: 130 + size * (row + .5), y: 34, "text-anchor": "middle" }, name.length * 6.5 > size ? `${name.slice(0, Math.floor(size / 7))}…` : name);
    names.forEach((other, column) => {
      const share = counts[row][column] / total;
      draw(svg, "rect", { x: 130 + size * column, y: 40 + size * row, width: size, height: size,
        style: `fill: color-mix(in oklab, var(--hot) ${100 * share}%, var(--track))` });
      draw(svg, "text", { x: 130 + size * (column + .5), y: 44 + size * (row + .5), "text-anchor": "middle",
        style: `fill: var(${share > .5 ? "--on-hot" : "--ink"})` }, String(counts[row][column]));
    });
  });
  svg.setAttribute("viewBox", `0 0 600 ${50 + size * names.length}`);
  svg.setAttribute("aria-label", `How many test rows of each name were taken for each: ${names.map((name, row) => `${name}: ${counts[row].join(", ")}`).join("; ")}`);
}

const interval = (td) => `[${[td.dataset.low, td.dataset.high].map((bound) => Number(bound).toPrecision(3).replace("-", "−")).join(", ")}]`;

// Write the interval of each score into its cell, or take it away.
function writeIntervals(wanted) {
  for (const old of all("td.score .interval")) old.remove();
  for (const td of wanted ? all("td.score[data-low]") : []) {
    const text = document.createElement("span");
    text.className = "interval";
    text.textContent = interval(td);
    td.querySelector(".strip").before(text);
  }
}

function open(button) {
  const td = button.closest("td"), table = td.closest("table");
  const board = table.closest(".board").dataset.board, column = td.parentElement.dataset.column;
  const head = table.tHead.rows[0].cells[td.cellIndex];
  const encoder = td.parentElement.dataset.encoder, target = head.dataset.target;
  const source = head.dataset.by;
  by("cell-title").textContent = `${encoder}: ${target}`;
  const facts = [
    ["cell", table.closest(".board").querySelector("h3").textContent],
    ["score", `${td.querySelector(".value").textContent} ${head.querySelector(".metric").textContent}`],
    ["95 % interval", interval(td)],
    ...(head.querySelector(".ceiling") ? [["best without ties", head.querySelector(".ceiling").textContent.replace("ties allow ", "")]] : []),
    ["rank", `#${td.querySelector(".rank").textContent}`],
    ["predicted by", source === "probe" || td.querySelector(".by") ? "a probe of the embeddings" : "the encoder itself"],
  ];
  by("cell-facts").replaceChildren(...facts.flatMap(([name, text]) => {
    const [term, value] = [document.createElement("dt"), document.createElement("dd")];
    [term.textContent, value.textContent] = [name, text];
    return [term, value];
  }));
  const key = `${board}/${target}/${source}`, own = `${key}/${column}`;
  const svg = by("scatter");
  svg.replaceChildren();
  const known = own in data.predicted || own in data.taken;
  svg.toggleAttribute("hidden", !known);
  if (own in data.predicted) drawScatter(svg, data.truth[key], data.predicted[own], data.epochs[key], data.rows[key]);
  if (own in data.taken) drawTaken(svg, data.named[key], data.taken[own]);
  by("cell").showModal();
}

// A cell of a heat map opens the score of the table of its cell.
function openHeat(button) {
  const [board, target, source, encoder] = button.dataset.open.split("/");
  const table = document.querySelector(`[data-board="${board}"] table`);
  const heads = [...table.tHead.rows[0].cells];
  const column = heads.findIndex((head) => head.dataset.target === target && head.dataset.extra === undefined &&
    head.dataset.by === source);
  const row = [...table.tBodies[0].rows].find((its) => its.dataset.encoder === encoder);
  open(row.cells[column].querySelector("button"));
}

// Every score as a line of CSV, read from the tables.
function download() {
  const quoted = (text) => `"${text.replaceAll('"', '""')}"`;
  const lines = ["benchmark,cell,encoder,target,metric,by,ranks,value,low,high,rank"];
  for (const board of all(".board")) {
    const heads = [...board.querySelector("table").tHead.rows[0].cells];
    for (const row of board.querySelector("table").tBodies[0].rows)
      [...row.cells].forEach((cell, column) => {
        if (heads[column].dataset.target === undefined || cell.dataset.value === undefined) return;
        const named = [board.closest(".benchmark").dataset.benchmark, board.querySelector("h3").textContent, row.dataset.encoder];
        const { target, metric, by: source, ranks } = heads[column].dataset;
        const { value, low, high } = cell.dataset, rank = cell.querySelector(".rank").textContent;
        lines.push([...[...named, target, metric, source].map(quoted), ranks, value, low, high, rank].join(","));
      });
  }
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([`${lines.join("\n")}\n`], { type: "text/csv" }));
  link.download = "leaderboard.csv";
  link.click();
  URL.revokeObjectURL(link.href);
  return lines.length - 1;
}

// Say below a table that it goes on, where it does.
function measure() {
  for (const scroll of all(".scroll")) scroll.classList.toggle("wide", scroll.scrollWidth > scroll.clientWidth + 4);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.id === "download") download();
  else if (button.closest("th")) sort(button.closest("th"));
  else if (button.closest("td.score")) open(button);
  else if (button.dataset.open) openHeat(button);
});
for (const id of FILTERS) by(id).addEventListener("input", filter);
for (const choice of all("[name=cost]")) choice.addEventListener("input", drawCost);
by("numbers").addEventListener("input", () => { writeIntervals(by("numbers").checked); measure(); });
by("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});
for (const scroll of all(".scroll"))
  if (scroll.querySelector("table")) scroll.insertAdjacentHTML("afterend", '<p class="more">The table goes on to the right: scroll it sideways.</p>');
addEventListener("resize", () => { measure(); drawCost(); });
addEventListener("hashchange", () => { restore(); filter(); });
restore();
filter();
measure();
