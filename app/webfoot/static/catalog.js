// The catalog filters as one types; without this script its form asks the server for the same.

import { wireCopyButtons } from "./copy.js";

wireCopyButtons();

const search = document.getElementById("search");
if (search) wireSearch(search);

function wireSearch(field) {
  const entries = [...document.querySelectorAll("#catalog > li")];
  const count = document.getElementById("count");
  const nothing = document.getElementById("nothing");
  field.form.querySelector("button").hidden = true;

  function filter() {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const entry of entries) {
      const found = words.every((word) => entry.dataset.searched.includes(word));
      entry.hidden = !found;
      shown += found;
    }
    count.textContent = `${shown} of ${entries.length}`;
    nothing.hidden = shown > 0;
  }

  // Reloading and sharing keep what is searched for.
  function remember() {
    const url = new URL(location.href);
    if (field.value.trim()) url.searchParams.set("q", field.value.trim());
    else url.searchParams.delete("q");
    history.replaceState(null, "", url);
  }

  field.addEventListener("input", () => {
    filter();
    remember();
  });
  field.form.addEventListener("submit", (event) => {
    event.preventDefault();
    const first = entries.find((entry) => !entry.hidden);
    if (first) first.querySelector("a").click();
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, textarea, select");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      field.focus();
      field.select();
    }
  });
  if (field.value) filter();
}
