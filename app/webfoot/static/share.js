// A link to the table that the form asks for, for those who have no key.

const get = (id) => document.getElementById(id);

/**
 * Wire the form that makes links, if whoever looks at the page may make some.
 *
 * @param {() => URLSearchParams} query What the call's form asks for.
 */
export function wireShare(query) {
  const form = get("share");
  if (!form) return;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
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
    const made = await make(form.action, wanted);
    show(made.urls && made.urls[format] + (free && asked.size ? `&${asked}` : ""), made);
  });
}

/** The parameters as the server takes them: a text, or a list where a name is there repeatedly. */
function parametersOf(asked) {
  const names = [...new Set(asked.keys())];
  return Object.fromEntries(
    names.map((name) => {
      const texts = asked.getAll(name);
      return [name, texts.length > 1 ? texts : texts[0]];
    }),
  );
}

async function make(address, wanted) {
  try {
    const answer = await fetch(address, {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "application/json" },
      body: JSON.stringify(wanted),
    });
    return await answer.json();
  } catch (error) {
    return { detail: `The server did not answer: ${error.message}` };
  }
}

function show(url, made) {
  get("share-made").hidden = !url;
  get("share-url").textContent = url ?? "";
  get("share-said").textContent = url
    ? `The link ${made.id} is made. Whoever has it reads this table, and nothing else.`
    : made.detail;
}
