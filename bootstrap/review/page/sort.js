// The page is complete without this. It sorts tables by a column, finds rows, and shows in
// which column the pointer is.
(() => {
  "use strict";
  const order = "asxon";
  const key = (cell) => {
    if (cell.className && order.includes(cell.className[0]) && cell.closest(".matrix") && cell.tagName === "TD" && !cell.classList.contains("sum")) {
      return order.indexOf(cell.className[0]) * 4 + (cell.classList.contains("u") ? 1 : cell.classList.contains("k") ? 2 : 0);
    }
    const text = cell.textContent.trim();
    return /^\d+$/.test(text) ? -Number(text) : text.toLowerCase();
  };
  const compare = (a, b) => (typeof a === "number" && typeof b === "number") ? a - b : String(a).localeCompare(String(b));

  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    const body = table.tBodies[0];
    const sort = (head) => {
      const at = heads.indexOf(head);
      const back = head.getAttribute("aria-sort") === "ascending";
      for (const h of heads) h.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", back ? "descending" : "ascending");
      const rows = [...body.rows].map((row) => ({ row, key: key(row.cells[at]) }));
      rows.sort((a, b) => (back ? -1 : 1) * compare(a.key, b.key));
      body.append(...rows.map((r) => r.row));
    };
    for (const head of heads) {
      head.setAttribute("aria-sort", "none");
      head.tabIndex = 0;
      head.addEventListener("click", () => sort(head));
      head.addEventListener("keydown", (e) => {
        if (e.key === "Enter" || e.key === " ") { e.preventDefault(); sort(head); }
      });
    }
    const scroll = table.closest(".scroll");
    if (body.rows.length > 10) {
      const find = document.createElement("input");
      find.type = "search";
      find.className = "find";
      find.placeholder = "Find rows";
      find.setAttribute("aria-label", find.placeholder);
      const texts = [...body.rows].map((row) => ({ row, text: scroll.matches(".matrix") ? row.cells[0].textContent.toLowerCase() : row.textContent.toLowerCase() }));
      find.addEventListener("input", () => {
        const wanted = find.value.trim().toLowerCase();
        for (const { row, text } of texts) row.hidden = !text.includes(wanted);
      });
      scroll.before(find);
    }
    if (scroll.matches(".matrix")) {
      let on;
      body.addEventListener("pointerover", (e) => {
        const cell = e.target.closest("td");
        on?.classList.remove("on");
        on = cell ? heads[cell.cellIndex] : undefined;
        on?.classList.add("on");
      });
    }
  }
})();
