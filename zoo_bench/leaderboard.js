// What the leaderboard's page does: filter, sort, open a score, draw. Without it the tables are still whole.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const by = (id) => document.getElementById(id);
const NAMESPACE = "http://www.w3.org/2000/svg";

function draw(svg, kind, attributes, text) {
  const element = document.createElementNS(NAMESPACE, kind);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  svg.append(element);
}

function filter() {
  const benchmark = by("benchmark").value;
  const words = by("filter").value.toLowerCase();
  const encoder = by("encoder").value.toLowerCase();
  let shown = 0;
  for (const board of document.querySelectorAll(".board")) {
    let rows = 0;
    for (const row of board.querySelectorAll("tbody tr")) {
      const text = `${row.cells[0].textContent} ${row.cells[1].textContent}`.toLowerCase();
      row.hidden = !text.includes(words) || (row.classList.contains("extra") && !by("every").checked && !words);
      rows += !row.hidden;
    }
    for (const cell of board.querySelectorAll("[data-encoder]"))
      cell.hidden = !cell.dataset.encoder.toLowerCase().includes(encoder);
    board.hidden = Boolean(benchmark && board.dataset.benchmark !== benchmark) || !rows;
    if (!board.hidden) shown += rows;
  }
  let grids = 0;
  for (const grid of document.querySelectorAll("#grids [data-encoder]")) {
    grid.hidden = Boolean(benchmark && grid.dataset.benchmark !== benchmark) ||
      !grid.dataset.encoder.toLowerCase().includes(encoder) || !grid.dataset.text.toLowerCase().includes(words);
    grids += !grid.hidden;
  }
  if (by("grids")) by("grids").hidden = !grids;
  by("count").textContent = `${shown} rows`;
  drawCost(benchmark || data.costs[0].benchmark);
}

function sort(head) {
  const table = head.closest("table"), column = head.cellIndex;
  const order = head.getAttribute("aria-sort") === "descending" ? "ascending" : "descending";
  for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const value = (row) => row.cells[column].dataset.value;
  const rows = [...table.tBodies[0].rows].sort((one, other) => {
    if (column < 2) return sign * one.cells[column].textContent.localeCompare(other.cells[column].textContent);
    if (value(one) === undefined || value(other) === undefined)
      return (value(one) === undefined) - (value(other) === undefined);
    return sign * (Number(value(one)) - Number(value(other)));
  });
  table.tBodies[0].append(...rows);
}

function frame(svg, left, right, bottom, top, across, up) {
  svg.replaceChildren();
  const { width, height } = svg.viewBox.baseVal;
  const x = (value) => 60 + (width - 80) * (right > left ? (value - left) / (right - left) : 0.5);
  const y = (value) => height - 40 - (height - 60) * (top > bottom ? (value - bottom) / (top - bottom) : 0.5);
  draw(svg, "line", { class: "axis", x1: 60, x2: width - 20, y1: height - 40, y2: height - 40 });
  draw(svg, "line", { class: "axis", x1: 60, x2: 60, y1: 20, y2: height - 40 });
  draw(svg, "text", { x: width - 20, y: height - 8, "text-anchor": "end" }, across);
  draw(svg, "text", { x: 8, y: 12 }, up);
  return [x, y];
}

function drawCost(benchmark) {
  const points = data.costs.filter((point) => point.benchmark === benchmark);
  const logs = points.map((point) => Math.log10(Math.max(point.seconds, 0.01)));
  const ranks = points.map((point) => point.rank);
  const svg = by("cost");
  const [left, right] = [Math.floor(Math.min(...logs)), Math.ceil(Math.max(...logs))];
  const [x, y] = frame(svg, left, right, Math.max(...ranks), 1, "seconds", `mean rank, ${benchmark}`);
  for (let power = left; power <= right; power++)
    draw(svg, "text", { x: x(power), y: 276, "text-anchor": "middle" }, String(10 ** power));
  for (let rank = 1; rank <= Math.max(...ranks); rank++)
    draw(svg, "text", { x: 50, y: yOf(y, rank, ranks) + 4, "text-anchor": "end" }, String(rank));
  points.forEach((point, number) => {
    const place = { cx: x(logs[number]), cy: yOf(y, point.rank, ranks) };
    draw(svg, "circle", { ...place, r: 5 });
    const atRight = place.cx > 380;
    draw(svg, "text", { x: place.cx + (atRight ? -9 : 9), y: place.cy + 4, "text-anchor": atRight ? "end" : "start" },
      point.encoder);
  });
}

// The best rank stands on top, so the scale is turned over.
function yOf(y, rank, ranks) {
  const worst = Math.max(...ranks);
  return worst > 1 ? 20 + 240 * (rank - 1) / (worst - 1) : 140;
}

function open(button) {
  const [board, row, column] = button.dataset.key.split("/").map(Number);
  const about = data.boards[board];
  const [target, metric, source] = about.rows[row];
  const encoder = about.encoders[column];
  by("cell-title").textContent = `${encoder}: ${target}`;
  by("cell-text").textContent =
    `${about.cell} · ${metric} ${button.textContent.trim().replace(/\s+/g, " ")} · ${source}`;
  const points = data.points[`${board}/${target}/${source}/${column}`];
  const svg = by("scatter");
  svg.replaceChildren();
  svg.toggleAttribute("hidden", !points);
  if (points) {
    const all = points.flat();
    const [low, high] = [Math.min(...all), Math.max(...all)];
    const [x, y] = frame(svg, low, high, low, high, "true", "predicted");
    draw(svg, "line", { class: "diagonal", x1: x(low), y1: y(low), x2: x(high), y2: y(high) });
    for (const [truth, predicted] of points) draw(svg, "circle", { cx: x(truth), cy: y(predicted), r: 3 });
    for (const value of [low, high])
      draw(svg, "text", { x: x(value), y: 376, "text-anchor": "middle" }, value.toPrecision(3));
    svg.setAttribute("aria-label", `${points.length} test rows, predicted against true, from ${low} to ${high}`);
  }
  by("cell").showModal();
}

document.addEventListener("click", (event) => {
  const head = event.target.closest("th button");
  const score = event.target.closest("td.score button");
  if (head) sort(head.closest("th"));
  if (score) open(score);
});
for (const id of ["benchmark", "filter", "encoder", "every"]) by(id).addEventListener("input", filter);
by("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});
filter();
