"use strict";
(() => {
  const ROW = 28, TALLEST = 15e6, PRINTED = 100, LONG = 60, BUFFER = 12;
  const by = (id) => document.getElementById(id);
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  // -- colours
  const root = document.documentElement, theme = by("theme");
  const kept = (() => { try { return localStorage.getItem("nestlab-theme"); } catch { return null; } })();
  const isDark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const name = () => { theme.textContent = isDark() ? "Light" : "Dark"; };
  if (kept === "dark" || kept === "light") root.dataset.theme = kept;
  theme.hidden = false;
  name();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", name);
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("nestlab-theme", root.dataset.theme); } catch { /* a file may have no storage */ }
    name();
  });

  // -- numbers
  const shown = (value, mcse) => {
    if (Number.isNaN(value)) return "";
    if (!(mcse > 0)) return String(Number(value.toPrecision(4)));
    const exponent = Math.floor(Math.log10(mcse));
    const digits = mcse / 10 ** exponent < 1.95 ? 1 : 0;
    return value.toFixed(Math.min(Math.max(digits - exponent, 0), 8));
  };
  const Z = 1.959963984540054;
  const wilson = (value, n) => {
    const k = Math.round(value * n), p = k / n, shrink = 1 + Z * Z / n;
    const centre = (p + Z * Z / (2 * n)) / shrink;
    const half = Z / shrink * Math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n));
    return [k === 0 ? 0 : Math.max(centre - half, 0), k === n ? 1 : Math.min(centre + half, 1)];
  };

  const unpack = async (text) => {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
  };

  // -- columns: {name, kind, numeric, texts?, codes?}, at(row): what it is sorted by, text(row): as shown, plain(row): as in the CSV
  const columnsOf = (data, numbers) => {
    const columns = data.columns.map((column) => {
      const codes = Uint32Array.from(numbers[column.name]);
      const texts = column.levels.map((level) => level === null ? "" : String(level));
      const numeric = column.levels.length > 0 && column.levels.every((level) => level === null || typeof level === "number");
      const order = numeric ? column.levels.map((level) => level === null ? NaN : level) : ranks(texts);
      return { ...column, codes, texts, numeric, at: (i) => order[codes[i]], text: (i) => texts[codes[i]], plain: (i) => texts[codes[i]] };
    });
    const real = (list) => Float64Array.from(list, (value) => value === null ? NaN : value);
    const value = real(numbers.value), mcse = real(numbers.mcse), n = real(numbers.n), missing = real(numbers.missing);
    const rows = value.length;
    const ends = ["lower", "upper", "bound_lower", "bound_upper"].map(() => new Float64Array(rows).fill(NaN));
    const measure = columns.find((column) => column.name === "measure");
    const proportion = measure ? measure.levels.map((level) => data.proportions.includes(level)) : [];
    for (let i = 0; i < rows; i += 1) {
      if (measure && proportion[measure.codes[i]] && n[i] > 0) [ends[0][i], ends[1][i]] = wilson(value[i], n[i]);
      if (!Number.isNaN(missing[i]) && n[i] + missing[i] > 0) {
        const k = n[i] > 0 ? Math.round(value[i] * n[i]) : 0;
        ends[2][i] = k / (n[i] + missing[i]);
        ends[3][i] = (k + missing[i]) / (n[i] + missing[i]);
      }
    }
    const number = (label, values, text, kind = "number") => ({ name: label, kind, numeric: true, at: (i) => values[i], text: (i) => Number.isNaN(values[i]) ? "" : text(i), plain: (i) => Number.isNaN(values[i]) ? "" : String(values[i]) });
    const limit = (label, values, kind) => number(label, values, (i) => values[i].toFixed(4), kind);
    return columns.concat([
      number("value", value, (i) => shown(value[i], mcse[i])),
      number("mcse", mcse, (i) => mcse[i] === 0 ? "0" : shown(mcse[i], mcse[i])),
      number("n", n, (i) => n[i].toLocaleString("en")),
      limit("lower", ends[0]), limit("upper", ends[1]),
      number("missing", missing, (i) => missing[i].toLocaleString("en"), "extra"),
      limit("bound_lower", ends[2], "extra"), limit("bound_upper", ends[3], "extra"),
    ]);
  };
  const ranks = (texts) => {
    const sorted = texts.map((text, code) => [text, code]).sort((a, b) => a[0].localeCompare(b[0], "en", { numeric: true }));
    const order = [];
    sorted.forEach(([, code], rank) => { order[code] = rank; });
    return order;
  };

  // -- filters: a comparison, a range, or text within what is shown
  const NUMBER = "([-+]?(?:\\d+\\.?\\d*|\\.\\d+)(?:e[-+]?\\d+)?)";
  const COMPARISON = new RegExp(`^(<=|>=|<|>|=)\\s*${NUMBER}$`, "i"), RANGE = new RegExp(`^${NUMBER}\\s*\\.\\.\\s*${NUMBER}$`, "i");
  const COMPARE = { "<": (a, b) => a < b, "<=": (a, b) => a <= b, ">": (a, b) => a > b, ">=": (a, b) => a >= b, "=": (a, b) => a === b };
  const test = (column, typed) => {
    const text = typed.trim().toLowerCase();
    if (!text) return null;
    if (column.numeric) {
      const compared = COMPARISON.exec(text), range = RANGE.exec(text);
      if (compared) return (i) => COMPARE[compared[1]](column.at(i), Number(compared[2]));
      if (range) return (i) => column.at(i) >= Number(range[1]) && column.at(i) <= Number(range[2]);
    }
    if (column.texts) {
      const hits = column.texts.map((level) => level.toLowerCase().includes(text));
      return (i) => hits[column.codes[i]];
    }
    return (i) => column.text(i).toLowerCase().includes(text);
  };

  const look = (column) => `${column.numeric ? "number" : ""}${column.kind === "extra" ? " extra" : ""}`;
  const CHOSEN = ["measure", "estimand", "method", "subset"];

  class Grid {
    constructor(data, columns) {
      this.data = data;
      this.columns = columns;
      this.rows = data.rows;
      this.filters = columns.map(() => null);
      this.choices = {};
      this.sorted = { column: -1, down: false };
      this.order = Uint32Array.from({ length: this.rows }, (_, i) => i);
      this.scroller = by("scroller");
      this.body = this.scroller.querySelector("tbody");
      this.buildHead();
      this.buildChoices();
      this.scroller.addEventListener("scroll", () => this.draw(), { passive: true });
      addEventListener("resize", () => this.draw());
      addEventListener("beforeprint", () => this.print(true));
      addEventListener("afterprint", () => this.print(false));
      by("clear").addEventListener("click", () => this.clear());
      by("copy").addEventListener("click", () => this.copy());
      by("download").addEventListener("click", () => this.download());
      by("tools").hidden = false;
      this.scroller.hidden = false;
      this.update();
    }

    buildHead() {
      const group = this.scroller.querySelector("colgroup"), head = this.scroller.querySelector("thead");
      const titles = make("tr"), filters = make("tr", { className: "filters" });
      let total = 0;
      this.columns.forEach((column, c) => {
        const longest = column.texts ? column.texts.reduce((most, text) => Math.max(most, text.length), 0) : 9;
        const width = Math.round(Math.min(Math.max(longest * 7.4 + 20, Math.min(column.name.length, 22) * 8 + 46), 300));
        const col = make("col");
        col.style.width = `${width}px`;
        total += width;
        group.append(col);
        const button = make("button", { type: "button", textContent: column.name });
        const th = make("th", { scope: "col", className: look(column) }, button);
        th.setAttribute("aria-sort", "none");
        button.addEventListener("click", () => this.sort(c));
        titles.append(th);
        const input = make("input", { type: "text", autocomplete: "off", spellcheck: false });
        input.setAttribute("aria-label", `Filter ${column.name}`);
        input.dataset.column = column.name;
        input.addEventListener("input", () => { this.filters[c] = test(column, input.value); this.update(); });
        filters.append(make("th", {}, input));
      });
      head.append(titles, filters);
      by("grid").style.width = `${total}px`;
    }

    buildChoices() {
      for (const name of CHOSEN) {
        const column = this.columns.find((each) => each.name === name);
        if (!column) continue;
        const select = make("select", {}, make("option", { value: "", textContent: "any" }));
        select.dataset.column = name;
        column.texts.forEach((text, code) => select.append(make("option", { value: String(code), textContent: text || "(method as a whole)" })));
        select.addEventListener("change", () => { this.choices[name] = select.value === "" ? null : { column, code: Number(select.value) }; this.update(); });
        const label = make("label", {}, make("span", { textContent: name }), select);
        by("choices").append(label);
        const start = name === "subset" ? column.texts.indexOf("converged") : -1;
        if (start >= 0) { select.value = String(start); this.choices[name] = { column, code: start }; }
      }
    }

    update() {
      const tests = this.filters.filter(Boolean);
      const chosen = Object.values(this.choices).filter(Boolean);
      const found = new Uint32Array(this.rows);
      let count = 0;
      for (let k = 0; k < this.rows; k += 1) {
        const i = this.order[k];
        if (chosen.every(({ column, code }) => column.codes[i] === code) && tests.every((passes) => passes(i))) {
          found[count] = i;
          count += 1;
        }
      }
      this.shown = found.subarray(0, count);
      by("count").textContent = `${count.toLocaleString("en")} of ${this.rows.toLocaleString("en")} rows`;
      by("grid").setAttribute("aria-rowcount", String(count + 2));
      this.scroller.scrollTop = 0;
      this.draw(true);
    }

    sort(c) {
      const down = this.sorted.column === c && !this.sorted.down;
      this.sorted = { column: c, down };
      const { at } = this.columns[c], sign = down ? -1 : 1;
      const keys = Float64Array.from({ length: this.rows }, (_, i) => at(i));
      this.order = Uint32Array.from({ length: this.rows }, (_, i) => i).sort((a, b) => {
        const x = keys[a], y = keys[b];
        if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y) || a - b;  // no value: last, either way
        return sign * (x - y) || a - b;
      });
      this.scroller.querySelectorAll("th[aria-sort]").forEach((th, k) => th.setAttribute("aria-sort", k !== c ? "none" : down ? "descending" : "ascending"));
      this.update();
    }

    row(k) {
      const tr = make("tr"), i = this.shown[k];
      tr.setAttribute("aria-rowindex", String(k + 3));
      for (const column of this.columns) {
        const text = column.text(i);
        const td = make("td", { className: look(column), textContent: text });
        if (text.length > 30) td.title = text;
        tr.append(td);
      }
      return tr;
    }

    space(height) {
      const td = make("td", { colSpan: this.columns.length });
      td.style.height = `${height}px`;
      const tr = make("tr", { className: "space" }, td);
      tr.setAttribute("aria-hidden", "true");
      return tr;
    }

    draw(anew = false) {
      if (this.printing) return;
      const count = this.shown.length, view = this.scroller.clientHeight, fits = Math.ceil(view / ROW);
      const full = count * ROW, height = Math.min(full, TALLEST);
      const share = height < full ? Math.min(this.scroller.scrollTop / Math.max(height - view, 1), 1) : 0;
      const top = height < full ? Math.floor(share * Math.max(count - fits, 0)) : Math.floor(this.scroller.scrollTop / ROW);
      const near = top >= this.first && Math.min(top + fits, count) <= this.last;
      if (!anew && near && height === full) return;  // what is drawn reaches beyond what is seen
      const first = this.first = Math.max(0, Math.min(top, count) - BUFFER), last = this.last = Math.min(count, top + fits + BUFFER);
      const above = height < full ? Math.max(this.scroller.scrollTop - (top - first) * ROW, 0) : first * ROW;
      const rows = [];
      for (let k = first; k < last; k += 1) rows.push(this.row(k));
      this.body.replaceChildren(this.space(above), ...rows, this.space(Math.max(height - above - (last - first) * ROW, 0)));
    }

    print(on) {
      this.printing = on;
      document.querySelectorAll("details").forEach((each) => {
        if (on && !each.open && each.querySelectorAll("tr").length <= LONG) { each.open = true; each.dataset.opened = "1"; }
        if (!on && each.dataset.opened) { each.open = false; delete each.dataset.opened; }
      });
      const count = Math.min(this.shown.length, PRINTED), cut = by("cut");
      cut.hidden = !(on && this.shown.length > count);
      cut.textContent = `The first ${count.toLocaleString("en")} of ${this.shown.length.toLocaleString("en")} rows; the page itself and its CSV hold all.`;
      if (on) this.body.replaceChildren(...Array.from({ length: count }, (_, k) => this.row(k)));
      else this.draw(true);
    }

    clear() {
      this.filters.fill(null);
      this.choices = {};
      this.scroller.querySelectorAll("input").forEach((input) => { input.value = ""; });
      by("choices").querySelectorAll("select").forEach((select) => { select.value = ""; });
      this.update();
    }

    csv() {
      const quoted = (text) => /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
      const lines = [this.columns.map((column) => quoted(column.name)).join(",")];
      for (const i of this.shown) lines.push(this.columns.map((column) => quoted(column.plain(i))).join(","));
      return lines.join("\n") + "\n";
    }

    async copy() {
      const text = this.csv();
      try {
        await navigator.clipboard.writeText(text);
      } catch {
        const area = make("textarea", { value: text });
        document.body.append(area);
        area.select();
        document.execCommand("copy");
        area.remove();
      }
      by("count").textContent = `${this.shown.length.toLocaleString("en")} of ${this.rows.toLocaleString("en")} rows, copied`;
    }

    download() {
      const url = URL.createObjectURL(new Blob([this.csv()], { type: "text/csv" }));
      const link = make("a", { href: url, download: this.data.file });
      document.body.append(link);
      link.click();
      link.remove();
      setTimeout(() => URL.revokeObjectURL(url), 10000);
    }
  }

  const start = async () => {
    const data = JSON.parse(by("data").textContent);
    const grid = new Grid(data, columnsOf(data, await unpack(data.numbers)));
    root.dataset.ready = String(Math.round(performance.now()));
    root.dataset.rows = String(grid.rows);
  };
  start().catch((error) => { by("count").textContent = `The table could not be made: ${error.message}`; });
})();
