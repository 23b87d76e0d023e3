// A list of which only the rows in sight exist, so that sixty thousand are as quick as six.
const TALLEST = 15_000_000; // pixels: no browser makes a box much taller

class Rows {
  constructor(box, label, fill) {
    Object.assign(this, { box, fill, items: [], height: 100, at: 0, top: 0, nodes: new Map() });
    this.inner = make("div", "inner");
    this.inner.setAttribute("role", "list");
    this.inner.setAttribute("aria-label", label);
    box.append(this.inner);
    let waiting = false;
    box.addEventListener("scroll", () => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => { waiting = false; this.draw(); if (this.box.clientHeight) this.top = this.box.scrollTop; });
    }, { passive: true });
    box.addEventListener("keydown", (event) => this.key(event));
    box.addEventListener("focusin", (event) => {
      const node = event.target.closest(".item");
      if (node) this.mark(Number(node.dataset.at));
    });
    new ResizeObserver(() => this.draw()).observe(box);
  }

  // -> how many of them can be shown
  show(items, height) {
    const most = Math.floor(TALLEST / height);
    const same = items.length === this.items.length && height === this.height && items.every((one, i) => one.key === this.items[i].key);
    Object.assign(this, { items: items.slice(0, most), height });
    this.inner.style.height = `${this.items.length * height}px`;
    for (const node of this.nodes.values()) node.remove();
    this.nodes.clear();
    if (!same) { this.top = 0; this.at = 0; }
    this.box.scrollTop = this.top; // a box that was hidden may have lost its place
    this.draw();
    return this.items.length;
  }

  draw() {
    if (!this.box.clientHeight) return;
    const first = Math.max(0, Math.floor(this.box.scrollTop / this.height) - 2);
    const last = Math.min(this.items.length, Math.ceil((this.box.scrollTop + this.box.clientHeight) / this.height) + 2);
    const focused = this.box.contains(document.activeElement) ? this.at : -1;
    for (const [number, node] of this.nodes) {
      if ((number < first || number >= last) && number !== focused) { node.remove(); this.nodes.delete(number); }
    }
    for (let number = first; number < last; number++) if (!this.nodes.has(number)) this.add(number);
  }

  add(number) {
    const node = make("div", "item");
    node.dataset.at = number;
    node.style.top = `${number * this.height}px`;
    node.style.height = `${this.height}px`;
    node.setAttribute("role", "listitem");
    node.setAttribute("aria-setsize", this.items.length);
    node.setAttribute("aria-posinset", number + 1);
    this.fill(node, this.items[number]);
    for (const one of node.querySelectorAll("a")) one.tabIndex = -1;
    if (number === this.at) node.querySelector("a")?.setAttribute("tabindex", "0");
    this.nodes.set(number, node);
    const after = [...this.nodes.keys()].filter((other) => other > number).sort((a, b) => a - b)[0];
    this.inner.insertBefore(node, after === undefined ? null : this.nodes.get(after));
  }

  mark(number) { // the one row that Tab reaches
    this.nodes.get(this.at)?.querySelectorAll("a").forEach((one) => { one.tabIndex = -1; });
    this.at = number;
    const node = this.nodes.get(number);
    const target = node?.contains(document.activeElement) ? document.activeElement : node?.querySelector("a");
    if (target) target.tabIndex = 0;
  }

  focus(number, column = 0) {
    if (!this.items.length) return;
    number = Math.min(Math.max(number, 0), this.items.length - 1);
    const top = number * this.height;
    if (top < this.box.scrollTop) this.box.scrollTop = top;
    else if (top + this.height > this.box.scrollTop + this.box.clientHeight) this.box.scrollTop = top + this.height - this.box.clientHeight;
    this.draw();
    const links = this.nodes.get(number)?.querySelectorAll("a") ?? [];
    const target = links[Math.min(Math.max(column, 0), links.length - 1)];
    if (!target) return;
    target.focus({ preventScroll: true });
    target.scrollIntoView({ block: "nearest", inline: "nearest" });
    this.draw();
  }

  key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const page = Math.max(1, Math.floor(this.box.clientHeight / this.height) - 1);
    const down = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity }[event.key];
    const across = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!down && !across) return;
    event.preventDefault();
    event.stopPropagation();
    const links = [...(this.nodes.get(this.at)?.querySelectorAll("a") ?? [])];
    const column = Math.max(0, links.indexOf(document.activeElement));
    if (across) this.focus(this.at, column + across);
    else this.focus(Math.max(0, Math.min(this.items.length - 1, this.at + down)), column);
  }
}
