"use strict";
// Everything can be read without this script; it adds sorting, searching, filters and tooltips.
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

// ---- tooltips of shapes: for the pointer, a tap, and the keyboard ----
const tip = document.getElementById("tip");
for (const title of all("svg title")) {
  title.parentElement.dataset.tip = title.textContent;
  title.parentElement.setAttribute("aria-label", title.textContent);
  title.remove(); // the browser would show it a second time
}
function say(text, x, y) {
  tip.textContent = text;
  tip.style.visibility = text ? "visible" : "hidden";
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - width - 4))}px`;
  tip.style.top = `${y + 18 + height > innerHeight ? Math.max(4, y - height - 10) : y + 18}px`;
}
function sayAt(shape, text) {
  const place = shape.getBoundingClientRect();
  say(text, place.left, Math.min(place.bottom, innerHeight - 60));
}
function pointed(event) {
  if (event.target.closest(".matrix svg")) return;
  const shape = event.target.closest("[data-tip]");
  say(shape ? shape.dataset.tip : "", event.clientX, event.clientY);
}
document.addEventListener("pointermove", pointed);
document.addEventListener("pointerdown", pointed);
document.addEventListener("focusin", (event) => {
  const shape = event.target.closest("[data-tip]");
  if (shape) sayAt(shape, shape.dataset.tip);
});
document.addEventListener("focusout", () => say("", 0, 0));
document.addEventListener("scroll", () => say("", 0, 0), { passive: true, capture: true });

// ---- tables ----
for (const table of all("table.sortable")) {
  const body = table.tBodies[0];
  all("thead th", table).forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      const order = before === "descending" || (!before && column === 0) ? "ascending" : "descending";
      all("thead th", table).forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const key = (row) => row.cells[column].dataset.value;
      const compare = (a, b) =>
        key(a) === undefined
          ? a.cells[column].textContent.localeCompare(b.cells[column].textContent, undefined, { numeric: true })
          : Number(key(a)) - Number(key(b));
      body.append(...[...body.rows].sort((a, b) => sign * compare(a, b)));
    });
  });
  // Highlights the lines of the class under the pointer in the charts.
  const lines = all(".line[data-tip]", table.closest("section"));
  const choose = (event) => {
    const row = event.type === "mouseleave" ? null : event.target.closest("tbody tr");
    const name = row ? row.cells[0].textContent : null;
    for (const line of lines) line.classList.toggle("chosen", line.dataset.tip === name);
  };
  body.addEventListener("mouseover", choose);
  body.addEventListener("click", choose);
  body.addEventListener("mouseleave", choose);
}
for (const field of all(".row-search")) {
  field.addEventListener("input", () => {
    const wanted = field.value.trim().toLowerCase();
    for (const row of all("tbody tr", field.closest(".table")))
      row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
  });
}

// ---- confusion matrices ----
for (const box of all(".matrix")) {
  const svg = box.querySelector("svg");
  const { rows, columns, cells } = JSON.parse(box.querySelector("script").textContent);
  const grid = svg.querySelector("image"); // one pixel per cell
  if (!grid) continue;
  const counts = new Map(cells.map(([r, c, n]) => [r * columns.length + c, n]));
  const sums = rows.map(() => 0);
  for (const [r, , n] of cells) sums[r] += n;
  const cursor = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  cursor.setAttribute("class", "cursor");
  for (const side of ["width", "height"]) cursor.setAttribute(side, 1);
  cursor.setAttribute("transform", grid.getAttribute("transform"));
  let at = [0, 0];
  const show = (r, c, x, y) => {
    at = [r, c];
    cursor.setAttribute("x", c);
    cursor.setAttribute("y", r);
    grid.after(cursor);
    const n = counts.get(r * columns.length + c) || 0;
    const share = sums[r] ? ((100 * n) / sums[r]).toFixed(1) : "0.0";
    const text = `${rows[r]} predicted as ${columns[c]}: ${n.toLocaleString("en")} of ${sums[r].toLocaleString("en")} (${share} %)`;
    if (x === undefined) sayAt(cursor, text);
    else say(text, x, y);
  };
  const hide = () => (cursor.remove(), say("", 0, 0));
  const point = (event) => {
    const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(grid.getScreenCTM().inverse());
    const [r, c] = [Math.floor(place.y), Math.floor(place.x)];
    if (r >= 0 && c >= 0 && r < rows.length && c < columns.length) show(r, c, event.clientX, event.clientY);
    else hide();
  };
  svg.addEventListener("pointermove", point);
  svg.addEventListener("pointerdown", point);
  svg.addEventListener("pointerleave", hide);
  box.addEventListener("blur", hide);
  box.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    const limit = (value, count) => Math.max(0, Math.min(count - 1, value));
    show(limit(at[0] + step[0], rows.length), limit(at[1] + step[1], columns.length));
  });
}

// ---- pictures ----
for (const section of all(".pictures")) {
  const figures = all(".gallery figure", section);
  const selects = all("select", section);
  const filter = () => {
    const wanted = Object.fromEntries(selects.map((select) => [select.dataset.filter, select.value]));
    for (const figure of figures) {
      figure.hidden = Object.entries(wanted).some(([key, value]) => value && !figure.dataset[key].split(" ").includes(value));
      for (const box of all(".box", figure)) {
        const other = (wanted.class && box.dataset.class !== wanted.class) || (wanted.kind && !box.classList.contains(wanted.kind));
        box.classList.toggle("other", Boolean(other));
      }
    }
    const count = figures.filter((figure) => !figure.hidden).length;
    section.querySelector(".shown").textContent = `${count} of ${figures.length} pictures`;
  };
  for (const select of selects) select.addEventListener("change", filter);
  const names = section.querySelector(".names-switch");
  if (names) names.addEventListener("change", () => section.classList.toggle("names", names.checked));
  for (const figure of figures) {
    const button = figure.querySelector("button.enlarge");
    button.addEventListener("click", () => {
      const wide = figure.classList.toggle("wide");
      button.setAttribute("aria-pressed", String(wide));
      button.textContent = wide ? "smaller" : "enlarge";
    });
    figure.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      const boxes = all(".box:not(.other)", figure);
      if (!step || !boxes.length) return;
      event.preventDefault();
      const at = boxes.indexOf(document.activeElement);
      boxes[at < 0 ? (step > 0 ? 0 : boxes.length - 1) : (at + step + boxes.length) % boxes.length].focus();
    });
  }
  filter();
}
