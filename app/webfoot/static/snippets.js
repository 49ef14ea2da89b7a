// The snippets of a UDF's page: one at a time, and for the parameters that are typed.

import { element } from "./table.js";

const snippets = document.getElementById("snippets");

/** One snippet at a time, chosen from a list; without this script all are below each other. */
export function wireSnippets() {
  const all = [...snippets.querySelectorAll(".snippet")];
  const list = element("div", { className: "choices" });
  list.setAttribute("role", "tablist");
  list.setAttribute("aria-label", "Readers");
  list.setAttribute("aria-orientation", "vertical");
  const choose = (chosen) => {
    all.forEach((snippet, n) => {
      snippet.hidden = n !== chosen;
      list.children[n].setAttribute("aria-selected", String(n === chosen));
      list.children[n].tabIndex = n === chosen ? 0 : -1;
    });
  };
  all.forEach((snippet, n) => {
    const tab = element("button", {
      type: "button",
      id: `choose-${snippet.id}`,
      textContent: snippet.dataset.title,
    });
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-controls", snippet.id);
    tab.addEventListener("click", () => choose(n));
    snippet.setAttribute("role", "tabpanel");
    list.append(tab);
  });
  list.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const next =
      ([...list.children].indexOf(document.activeElement) + step + all.length) % all.length;
    list.children[next].focus();
    choose(next);
  });
  snippets.prepend(list);
  snippets.classList.add("chosen");
  choose(0);
}

/**
 * Write the snippets anew, as the server has them.
 *
 * @param {string} address The page of the UDF with the parameters.
 * @param {() => boolean} wanted Whether that is still what is typed, once it is there.
 */
export async function renewSnippets(address, wanted) {
  const answer = await fetch(address, { headers: { Accept: "text/html" } }).catch(() => null);
  if (!answer?.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (!wanted()) return;
  for (const code of snippets.querySelectorAll("pre")) {
    const renewed = page.getElementById(code.id);
    if (renewed) code.textContent = renewed.textContent;
  }
  for (const link of snippets.querySelectorAll("a[data-opens]")) {
    const renewed = page.querySelector(`a[data-opens="${CSS.escape(link.dataset.opens)}"]`);
    if (renewed) link.setAttribute("href", renewed.getAttribute("href"));
  }
}
