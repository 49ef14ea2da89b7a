// SQL asked on the catalog's page; without this script its form leads to the rows themselves.

import { element, readPreview, showTable } from "./table.js";

const form = document.getElementById("ask");
const asked = document.getElementById("asked");
const answer = document.getElementById("answer");
const refused = document.getElementById("refused");
const button = form.querySelector("button");

form.addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});

form.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    form.requestSubmit();
  }
});

async function ask() {
  asked.textContent = "Running";
  button.disabled = true;
  refused.hidden = true;
  answer.replaceChildren();
  try {
    const query = new URLSearchParams(new FormData(form));
    const got = await fetch(`${form.action}?${query}`, { headers: { Accept: "application/json" } });
    if (got.ok) showRows(await got.text());
    else showProblem(await got.json());
  } catch (error) {
    showProblem({ title: "The server did not answer", detail: `${error.message}.` });
  } finally {
    button.disabled = false;
  }
}

function showRows(html) {
  const table = readPreview(html);
  const count = table.rows.length.toLocaleString("en");
  asked.textContent = `${table.cut ? "The first " : ""}${count} row${table.rows.length === 1 ? "" : "s"}`;
  showTable(answer, table, "Rows of the query");
}

function showProblem({ title, detail }) {
  asked.textContent = "";
  refused.replaceChildren(
    element("strong", { textContent: title }),
    element("pre", { textContent: detail }),
  );
  refused.hidden = false;
}
