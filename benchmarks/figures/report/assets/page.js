"use strict";
// The gallery, the sortable tables and the metric switch. Data comes from JSON blocks; text is only ever set as text.

const byId = (id) => document.getElementById(id);
const read = (id) => JSON.parse(byId(id).textContent);

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

// ---- tables ----

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = head.querySelector("button");
    if (!button) return;
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => row.cells[column].dataset.value ?? "";
      const rows = [...table.tBodies[0].rows].sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        if (x === "" || y === "") return (x === "") - (y === "");
        const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
        return down ? -order : order;
      });
      table.tBodies[0].append(...rows);
    });
  });
}

for (const choice of document.querySelectorAll("[data-switch]")) {
  choice.addEventListener("change", () => {
    for (const part of document.querySelectorAll(`[data-part="${choice.dataset.switch}"]`)) {
      part.hidden = part.dataset.name !== choice.value;
    }
  });
}

// ---- gallery ----

function gallery() {
  const data = read("gallery-data");
  const thumbs = {}; // concept -> list of data URIs, parsed when first needed
  const thumb = (concept, number) => {
    if (!(concept in thumbs)) thumbs[concept] = JSON.parse(document.querySelector(`[data-thumbs="${CSS.escape(concept)}"]`).textContent);
    return `data:image/webp;base64,${thumbs[concept][number]}`;
  };
  const biases = [...new Set(data.series.flatMap((one) => one.points.map((point) => point.bias)).filter((bias) => bias !== null))]
    .sort((a, b) => a - b);
  const state = {
    concepts: new Set(data.concepts.map((one) => one.name)),
    series: new Set(data.series.filter((one) => one.shown).map((one) => one.id)),
    kind: "", words: "", images: 1, order: "", by: data.series[0]?.id, bias: biases[Math.floor((biases.length - 1) / 2)],
  };

  // A series with biases shows the point whose bias is nearest to the slider's.
  const pointOf = (series) => series.points.reduce((best, point) =>
    Math.abs((point.bias ?? 0) - state.bias) < Math.abs((best.bias ?? 0) - state.bias) - 1e-9 ? point : best);

  function source(cell, number, row, point) {
    const [inline, file] = [cell.thumbs[number], cell.files];
    if (inline !== null && inline !== undefined) return thumb(row.concept, inline);
    return file ? fileOf(row, point, number) : null;
  }
  const fileOf = (row, point, number) =>
    data.base + ["images", point.method, point.point, row.concept, row.prompt, `${number}.png`].map(encodeURIComponent).join("/");

  function drawCell(series, row) {
    const point = pointOf(series);
    const box = make("div", "cell");
    const name = make("div", "name");
    const label = make("span", "", series.label);
    label.style.color = `light-dark(${series.ink}, color-mix(in srgb, ${series.ink} 50%, white))`;
    name.append(label, make("span", "", point.bias === null ? "" : `β ${point.bias.toFixed(2)}`));
    const pictures = make("div", "pictures");
    const cell = data.cells[point.id]?.[row.id];
    const count = Math.min(state.images, cell ? cell.n : 1);
    pictures.style.setProperty("--across", count > 1 ? 2 : 1);
    for (let number = 0; number < count; number++) {
      const src = cell && source(cell, number, row, point);
      if (!src) { pictures.append(make("div", "none", "no image")); continue; }
      const image = make("img", data.pixels ? "pixels" : "");
      const told = cell.score ? `; ${cell.score.replaceAll(" · ", ", ")}` : "";
      Object.assign(image, { src, loading: "lazy", decoding: "async", alt: `${series.label}: ${row.text}, picture ${number + 1}${told}` });
      const open = make("button", "open"); // a button, so that the keyboard reaches it
      Object.assign(open, { type: "button", title: "Enlarge" });
      open.append(image);
      image.addEventListener("error", () => open.replaceWith(make("div", "none", "image not here")));
      open.addEventListener("click", () => enlarge(image, series, point, row, cell, number));
      pictures.append(open);
    }
    box.append(name, pictures);
    if (cell && cell.score) {
      const score = make("div", "score");
      score.append(...cell.score.split(" · ").map((part) => make("span", "", part)));
      box.append(score);
    }
    return box;
  }

  // Why a row has no image similarity, in words; nothing where it has one, or no score at all.
  function whyUnscored(row) {
    const scores = Object.values(data.cells).map((cells) => cells[row.id]?.score).filter(Boolean);
    const missing = row.kind === "deform" && scores.length && !scores.some((score) => score.includes("image"));
    return missing ? "No image similarity: the prompt changes the object, so it should not look like the concept's images." : "";
  }

  function drawRow(node) {
    const row = data.rows[Number(node.dataset.row)];
    const head = make("div", "head");
    const examples = make("div", "concept");
    for (const src of (data.examples[row.concept] ?? []).slice(0, 4)) {
      const image = make("img", data.pixels ? "pixels" : "");
      Object.assign(image, { src, alt: `concept image of ${row.concept}`, loading: "lazy" });
      examples.append(image);
    }
    head.append(examples, make("q", "", row.text), make("span", "which", `${row.concept} · ${row.prompt}`));
    const cells = make("div", "cells");
    if (state.images > 1) cells.style.setProperty("--cell", "200px");
    for (const series of data.series) if (state.series.has(series.id)) cells.append(drawCell(series, row));
    cells.style.setProperty("--count", cells.childElementCount); // so that few are not blown up
    const why = whyUnscored(row);
    node.replaceChildren(head, ...(why ? [make("p", "why", why)] : []), cells);
  }

  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      near.unobserve(entry.target);
      drawRow(entry.target);
    }
  }, { rootMargin: "800px 0px" });

  // [row, its number], as planned or by a method's score; rows without that score last.
  function inOrder() {
    const rows = data.rows.map((row, number) => [row, number]);
    if (!state.order) return rows;
    const [score, way] = state.order.split(" ");
    const point = pointOf(data.series.find((one) => one.id === state.by)).id;
    const value = (row) => {
      const found = new RegExp(`${score} (-?[0-9.]+)`).exec(data.cells[point]?.[row.id]?.score ?? "");
      return found ? Number(found[1]) : null;
    };
    const known = new Map(data.rows.map((row) => [row.id, value(row)]));
    return rows.sort(([a], [b]) => {
      const [x, y] = [known.get(a.id), known.get(b.id)];
      if (x === null || y === null) return (x === null) - (y === null);
      return way === "up" ? x - y : y - x;
    });
  }

  function draw() {
    near.disconnect();
    const words = state.words.toLowerCase();
    const list = byId("gallery-rows");
    const shells = [];
    inOrder().forEach(([row, number]) => {
      if (!state.concepts.has(row.concept) || (state.kind && row.kind !== state.kind)) return;
      if (words && !row.text.toLowerCase().includes(words) && row.prompt.toLowerCase() !== words) return;
      const node = make("article", "row");
      node.dataset.row = number;
      shells.push(node);
    });
    list.replaceChildren(...shells);
    shells.forEach((node) => near.observe(node));
    byId("count").textContent = `${shells.length} of ${data.rows.length} rows`;
  }

  function redraw() { // same rows, other columns: only those already drawn
    for (const node of byId("gallery-rows").children) if (node.firstChild) drawRow(node);
  }

  function enlarge(image, series, point, row, cell, number) {
    const dialog = byId("light"), big = dialog.querySelector("img");
    big.className = image.className;
    big.alt = image.alt;
    big.onerror = () => { big.onerror = null; big.src = image.src; }; // the page may have travelled without the run
    big.src = cell.files ? fileOf(row, point, number) : image.src;
    const where = `${series.label}${point.bias === null ? "" : `, β ${point.bias.toFixed(2)}`} · ${row.concept} · ${row.prompt} · #${number}`;
    dialog.querySelector("figcaption").replaceChildren(make("div", "", row.text), make("div", "note", `${where}${cell.score ? ` · ${cell.score}` : ""}`));
    dialog.showModal();
  }
  const dialog = byId("light");
  dialog.addEventListener("click", (event) => { if (event.target === dialog || event.target.tagName === "BUTTON") dialog.close(); });

  function chips(id, items, chosen, after) {
    const box = byId(id);
    const mark = () => [...box.children].forEach((button) => button.setAttribute("aria-pressed", String(
      button.dataset.name === "" ? chosen.size === items.length : chosen.has(button.dataset.name) && !(id === "pick-concepts" && chosen.size === items.length))));
    const add = (name, label, act) => {
      const button = make("button", "", label);
      button.type = "button";
      button.dataset.name = name;
      button.addEventListener("click", () => { act(); mark(); after(); });
      box.append(button);
    };
    if (id === "pick-concepts") add("", "all", () => items.forEach((item) => chosen.add(item.name)));
    for (const item of items) {
      add(item.name, item.label, () => {
        if (id === "pick-concepts" && chosen.size === items.length) chosen.clear(); // from all to this one
        if (!chosen.delete(item.name)) chosen.add(item.name);
        if (!chosen.size) items.forEach((other) => chosen.add(other.name));
      });
    }
    mark();
    return mark;
  }
  const marks = [
    chips("pick-concepts", data.concepts.map((one) => ({ name: one.name, label: one.name.replaceAll("_", " ") })), state.concepts, draw),
    chips("pick-methods", data.series.map((one) => ({ name: one.id, label: one.label })), state.series, redraw),
  ];

  byId("pick-kind").addEventListener("change", (event) => { state.kind = event.target.value; draw(); });
  let typing;
  byId("pick-words").addEventListener("input", (event) => {
    clearTimeout(typing);
    typing = setTimeout(() => { state.words = event.target.value.trim(); draw(); }, 150);
  });
  byId("pick-images").addEventListener("change", (event) => { state.images = Number(event.target.value); redraw(); });
  const slider = byId("pick-bias");
  if (biases.length > 1) {
    Object.assign(slider, { min: 0, max: biases.length - 1, step: 1, value: biases.indexOf(state.bias) });
    const say = () => { byId("bias-now").textContent = state.bias.toFixed(2); };
    slider.addEventListener("input", () => { state.bias = biases[slider.value]; say(); if (state.order) draw(); else redraw(); });
    say();
  } else {
    slider.closest("label").hidden = true;
  }
  byId("pick-order").addEventListener("change", (event) => {
    state.order = event.target.value;
    byId("order-by").hidden = !state.order || data.series.length < 2;
    draw();
  });
  byId("pick-order-by").addEventListener("change", (event) => { state.by = event.target.value; draw(); });

  // From a cell that is named elsewhere to its picture: nothing is filtered away, its method and bias are on.
  function reveal(id, pointId) {
    const series = data.series.find((one) => one.points.some((point) => point.id === pointId));
    Object.assign(state, { kind: "", words: "" });
    for (const control of ["pick-kind", "pick-words"]) byId(control).value = "";
    data.concepts.forEach((one) => state.concepts.add(one.name));
    if (series) state.series.add(series.id);
    const bias = series?.points.find((point) => point.id === pointId).bias ?? null;
    if (bias !== null && biases.length > 1) {
      state.bias = bias;
      slider.value = biases.indexOf(bias);
      byId("bias-now").textContent = bias.toFixed(2);
    }
    marks.forEach((mark) => mark());
    draw();
    const node = [...byId("gallery-rows").children].find((one) => data.rows[Number(one.dataset.row)].id === id);
    if (!node) return;
    drawRow(node);
    node.classList.add("found");
    node.tabIndex = -1;
    node.scrollIntoView({ behavior: "instant", block: "start" });
    node.focus({ preventScroll: true });
  }
  for (const link of document.querySelectorAll("a[data-shows]")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      reveal(Number(link.dataset.shows), link.dataset.point);
    });
  }
  draw();
}

if (byId("gallery-data")) gallery();
