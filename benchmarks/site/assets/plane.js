// Any two columns against each other, and which points no other beats on both.
const sortedBy = { column: "y", down: true };

function fillPlane() {
  for (const id of ["pick-x", "pick-y"]) {
    byId(id).append(...[...columns].map(([name, { title }]) => option(name, title)));
    byId(id).addEventListener("change", (event) => change({ [id.slice(-1)]: event.target.value }));
  }
  byId("pick-bars").addEventListener("change", (event) => change({ bars: event.target.checked ? "" : "no" }));
  new ResizeObserver(slowly(() => { if (!byId("view-plane").hidden) drawPlane(); })).observe(byId("main"));
}

function axes() {
  const chosen = (name, usual) => columns.has(settings.get(name)) ? settings.get(name) : columns.has(usual) ? usual : [...columns.keys()][0];
  return { x: chosen("x", "text_sim"), y: chosen("y", "image_sim") };
}

function planePoints(passes) {
  const { x, y } = axes();
  const shown = shownRuns();
  const left = [];
  const found = [];
  for (const run of shown) {
    const why = shown[0] === run ? "" : apartOf(shown[0], run);
    if (why) { left.push(`${why} ${run.name} is left out; choose it under Runs.`); continue; }
    const names = new Set(shownPoints(run).map((point) => point.name));
    for (const point of run.points) {
      if (point.number < run.cells.length && !names.has(point.name)) continue;
      const [across, up] = [columnOf(point, x, passes), columnOf(point, y, passes)];
      if (known(across.value) && known(up.value)) found.push({ point, x: across, y: up });
    }
  }
  return { found, left };
}

const apartOf = (one, other) => one === other ? "" : runs[Math.max(one.index, other.index)].apart[Math.min(one.index, other.index)] ?? "";

// More is better on an axis with +1, less with -1. The ceiling and choices of several points compete with nobody.
function frontOf(found, ways) {
  const beats = (a, b) => ["x", "y"].every((axis) => ways[axis] * (a[axis].value - b[axis].value) >= 0)
    && ["x", "y"].some((axis) => a[axis].value !== b[axis].value);
  const those = found.filter(({ point }) => point.kind === "" || point.kind === "floor");
  return those.filter((one) => !those.some((other) => beats(other, one)));
}

function drawPlane() {
  const passes = passing();
  const { x, y } = axes();
  [byId("pick-x").value, byId("pick-y").value] = [x, y];
  const bars = settings.get("bars") !== "no";
  byId("pick-bars").checked = bars;
  const { found, left } = planePoints(passes);
  const ways = { x: columns.get(x).better, y: columns.get(y).better };
  const front = ways.x && ways.y ? frontOf(found, ways) : [];
  const notes = [...left];
  if (!found.length) notes.push("No point has both of these columns with these filters.");
  if (passes && (x === "text_sim" || x === "harmonic" || y === "text_sim" || y === "harmonic")) notes.push("With a filter, text similarity and the harmonic mean have no interval here: theirs is a bootstrap over the whole run.");
  if (found.length && !front.length) notes.push("Neither way of one of these columns is better, so there is no front.");
  else if (front.length) notes.push(`On the front: ${plural(front.length, "point")}, with a ring and a yes in the table.`);
  const guessed = [...new Set(found.filter(({ point }) => point.untuned).map(({ point }) => point.method))];
  if (guessed.length) notes.push(`Untuned: the rates of ${guessed.join(", ")} are a guess for this backbone, so that a low score says little of the method.`);
  byId("plane-note").textContent = notes.join(" ");
  byId("plane").replaceChildren(...(found.length ? [planeFigure(found, front, ways, { x, y }, bars)] : []));
  planeTable(found, new Set(front), { x, y });
  return found.length;
}

function scaleOf(found, axis, size, fixed, bars) {
  const values = found.map((one) => one[axis].value);
  let [least, most] = [Math.min(...values), Math.max(...values)];
  const log = fixed && least > 0 && most / least >= 10;
  const reach = 1.5 * Math.max(most - least, 0.05); // an interval of two or three concepts may be so wide that nothing else was seen
  if (bars && !log) {
    least = Math.min(...found.map((one) => Math.max(one[axis].lo ?? one[axis].value, least - reach) || least), least);
    most = Math.max(...found.map((one) => Math.min(one[axis].hi ?? one[axis].value, most + reach) || most), most);
  }
  const to = log ? Math.log10 : (value) => value;
  const room = 0.06 * (to(most) - to(least)) || 0.5 * Math.abs(to(most)) || 1;
  const [low, high] = [to(least) - room, to(most) + room];
  const at = (value) => (to(value) - low) / (high - low) * size;
  let ticks;
  if (log) {
    ticks = [];
    for (let power = Math.floor(low); power <= high; power++) for (const part of [1, 3]) ticks.push(part * 10 ** power);
  } else {
    const rough = (high - low) / 5, unit = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].find((part) => part * unit >= rough) * unit;
    ticks = Array.from({ length: Math.floor((high - low) / step) + 2 }, (_, i) => (Math.ceil(low / step) + i) * step);
  }
  return { at, low, high, ticks: ticks.filter((tick) => to(tick) >= low && to(tick) <= high) };
}

const tickText = (value) => Math.abs(value) >= 1000 ? value.toLocaleString("en", { notation: "compact" }) : String(Number(value.toPrecision(6)));

function planeFigure(found, front, ways, names, bars) {
  const width = Math.max(300, Math.min(byId("plane").clientWidth || 800, 1100));
  const height = Math.round(Math.max(320, Math.min(width * 0.6, 560)));
  const [left, bottom, top, right] = [58, 46, 12, 12];
  const [w, h] = [width - left - right, height - bottom - top];
  const across = scaleOf(found, "x", w, columns.get(names.x).fixed, bars), up = scaleOf(found, "y", h, columns.get(names.y).fixed, bars);
  const X = (value) => left + Math.min(Math.max(across.at(value), 0), w), Y = (value) => top + h - Math.min(Math.max(up.at(value), 0), h);
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, width, height, class: "plane", role: "group", "aria-label": `${columns.get(names.x).title} across, ${columns.get(names.y).title} up; ${plural(found.length, "point")}, all of them in the table below` });
  const text = (content, attributes) => { const node = draw("text", attributes); node.textContent = content; svg.append(node); return node; };
  for (const tick of across.ticks) {
    svg.append(draw("line", { class: "grid", x1: X(tick), x2: X(tick), y1: top, y2: top + h }));
    text(tickText(tick), { x: X(tick), y: top + h + 17, "text-anchor": "middle" });
  }
  for (const tick of up.ticks) {
    svg.append(draw("line", { class: "grid", x1: left, x2: left + w, y1: Y(tick), y2: Y(tick) }));
    text(tickText(tick), { x: left - 7, y: Y(tick) + 4, "text-anchor": "end" });
  }
  const arrow = (way) => way > 0 ? " (more is better)" : way < 0 ? " (less is better)" : "";
  text(columns.get(names.x).title + arrow(ways.x), { x: left + w / 2, y: height - 8, "text-anchor": "middle", class: "title" });
  text(columns.get(names.y).title + arrow(ways.y), { x: 0, y: 0, "text-anchor": "middle", class: "title", transform: `translate(14 ${top + h / 2}) rotate(-90)` });
  const steps = [...front].sort((a, b) => a.x.value - b.x.value).map((one) => `${X(one.x.value)},${Y(one.y.value)}`);
  if (steps.length > 1) svg.append(draw("polyline", { class: "front", points: steps.join(" ") }));
  const lines = new Map();
  for (const one of found) if (one.point.line) lines.set(`${one.point.run} ${one.point.line}`, [...(lines.get(`${one.point.run} ${one.point.line}`) ?? []), one]);
  for (const members of lines.values()) {
    members.sort((a, b) => a.point.bias - b.point.bias);
    svg.append(draw("polyline", { class: "along", stroke: members[0].point.colour, points: members.map((one) => `${X(one.x.value)},${Y(one.y.value)}`).join(" ") }));
  }
  if (bars) for (const one of found) {
    if (known(one.x.lo)) svg.append(draw("line", { class: "bar", stroke: one.point.colour, x1: X(one.x.lo), x2: X(one.x.hi), y1: Y(one.y.value), y2: Y(one.y.value) }));
    if (known(one.y.lo)) svg.append(draw("line", { class: "bar", stroke: one.point.colour, x1: X(one.x.value), x2: X(one.x.value), y1: Y(one.y.lo), y2: Y(one.y.hi) }));
  }
  const taken = found.map((one) => ({ l: X(one.x.value) - 6, r: X(one.x.value) + 6, t: Y(one.y.value) - 6, b: Y(one.y.value) + 6 }));
  const best = new Set(front);
  for (const one of [...found].sort((a, b) => best.has(a) - best.has(b))) svg.append(planeDot(one, best.has(one), X(one.x.value), Y(one.y.value), names));
  const several = new Set(found.map(({ point }) => point.run)).size > 1;
  for (const one of found) { // a label where there is room for it; the table has all
    const name = several ? one.point.called : one.point.label;
    const label = name.length > 34 ? `${name.slice(0, 33)}…` : name;
    const [cx, cy, wide] = [X(one.x.value), Y(one.y.value), label.length * 6.1];
    const places = [[cx + 9, cy + 4], [cx - 9 - wide, cy + 4], [cx - wide / 2, cy - 10], [cx - wide / 2, cy + 18]];
    const spot = places.map(([l, b]) => ({ l, r: l + wide, t: b - 11, b: b + 3 })).find((box) => box.l > left && box.r < width && box.t > top && box.b < top + h
      && !taken.some((other) => box.l < other.r && box.r > other.l && box.t < other.b && box.b > other.t));
    if (!spot) continue;
    taken.push(spot);
    ink(text(label, { x: spot.l, y: spot.b - 3, class: "label", "aria-hidden": "true" }), one.point.ink).style.fill = "currentColor";
  }
  return svg;
}

const pointWords = (one, names) => `${one.point.called}: ${columns.get(names.x).title} ${number(one.x.value)}${between(one.x)}, ${columns.get(names.y).title} ${number(one.y.value)}${between(one.y)}`;

function planeDot(one, best, x, y, names) {
  const dot = draw("a", { class: best ? "dot best" : "dot", href: pointAddress(one.point), "aria-label": pointWords(one, names) + (best ? "; on the front" : "") });
  const title = draw("title", {});
  title.textContent = pointWords(one, names);
  const mark = draw("g", { transform: `translate(${x - 7} ${y - 7})` });
  mark.append(shape(one.point));
  dot.append(title, draw("circle", { class: "reach", cx: x, cy: y, r: 11 }), mark);
  return dot;
}

// From a point to its cells, the lowest first.
function pointAddress(point) {
  if (point.number >= runs[point.run].cells.length) return addressOf([], { view: "plane" });
  return addressOf([], { view: "pictures", by: point.key, order: "up" });
}

function planeTable(found, best, names) {
  const table = byId("plane-table");
  const head = make("tr");
  const heads = [["name", "Method"], ["x", columns.get(names.x).title], ["y", columns.get(names.y).title], ["front", "Front"]];
  for (const [column, title] of heads) {
    const cell = make("th");
    cell.scope = "col";
    const button = make("button", "", title);
    button.type = "button";
    if (sortedBy.column === column) cell.setAttribute("aria-sort", sortedBy.down ? "descending" : "ascending");
    button.addEventListener("click", () => {
      Object.assign(sortedBy, { down: sortedBy.column === column ? !sortedBy.down : true, column });
      planeTable(found, best, names);
      table.tHead.rows[0].cells[heads.findIndex(([name]) => name === column)].querySelector("button").focus();
    });
    cell.append(button);
    head.append(cell);
  }
  const value = (one) => ({ name: one.point.called, x: one.x.value, y: one.y.value, front: best.has(one) ? 1 : 0 })[sortedBy.column];
  const order = [...found].sort((a, b) => (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : 0) * (sortedBy.down ? -1 : 1));
  const rows = order.map((one) => {
    const row = make("tr");
    const name = make("th");
    name.scope = "row";
    name.append(marker(one.point), one.point.number < runs[one.point.run].cells.length ? link(pointAddress(one.point), "", one.point.called) : one.point.called);
    const cells = [one.x, one.y].map((score) => { const cell = make("td", "", number(score.value)); cell.append(make("small", "", between(score))); return cell; });
    row.append(name, ...cells, make("td", "", best.has(one) ? "yes" : ""));
    return row;
  });
  table.tHead.replaceChildren(head);
  table.tBodies[0].replaceChildren(...rows);
}
