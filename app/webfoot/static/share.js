// A link to the table that the form asks for, for those who have no key.

import { query, unreadable } from "./form.js";

const get = (id) => document.getElementById(id);
const DAY = new Intl.DateTimeFormat("en", { dateStyle: "long" });

/** Show and wire the form that makes links, if whoever looks at the page may make some. */
export function wireShare() {
  const form = get("share");
  if (!form) return;
  form.closest("section").hidden = false;
  const button = form.querySelector("button");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    const { url, said, wrong } = await makeLink(form);
    button.disabled = false;
    get("share-made").hidden = !url;
    get("share-url").textContent = url ?? "";
    get("share-said").textContent = said ?? "";
    get("share-wrong").textContent = wrong ?? "";
    get("share-wrong").hidden = !wrong;
  });
}

/** The address of a new link, and what is to be said of it; or what is wrong. */
async function makeLink(form) {
  const [half] = unreadable();
  if (half) return { wrong: `${half.parameter}: ${half.message}` };
  const asked = query();
  const free = get("share-free").checked;
  const format = get("share-format").value;
  const wanted = {
    udf: form.dataset.udf,
    parameters: free ? {} : parametersOf(asked),
    free: free ? ["*"] : [],
    formats: [format],
    expires: get("share-expires").value,
  };
  try {
    const answer = await fetch(form.action, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(wanted),
    });
    const told = await answer.json();
    if (!answer.ok) return { wrong: told.detail };
    const end = DAY.format(told.expires * 1000);
    return {
      url: told.urls[format] + (free && asked.size ? `&${asked}` : ""),
      said: `Good until ${end}, for whoever has it. It is revoked by its id, ${told.id}.`,
    };
  } catch (error) {
    return { wrong: `The server gave no answer that can be read: ${error.message}` };
  }
}

/** The parameters as the server takes them: a text, or a list where there are several. */
function parametersOf(asked) {
  const parameters = {};
  for (const name of asked.keys()) {
    const texts = asked.getAll(name);
    parameters[name] = texts.length > 1 ? texts : texts[0];
  }
  return parameters;
}
