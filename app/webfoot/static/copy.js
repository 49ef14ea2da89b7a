// Buttons that copy a text of the page.

const SAID_FOR_MS = 1600;

/** Show and wire every button that copies; `data-copies` is the id of what it copies. */
export function wireCopyButtons(root = document) {
  for (const button of root.querySelectorAll("button.copy")) {
    button.hidden = false;
    button.addEventListener("click", () => copyFrom(button));
  }
}

async function copyFrom(button) {
  const source = document.getElementById(button.dataset.copies);
  const copied = await copyText(source);
  button.textContent = copied ? "Copied" : "Press Ctrl C";
  announce(copied ? "Copied" : "Selected; press Control C to copy");
  clearTimeout(button.timer);
  button.timer = setTimeout(() => (button.textContent = "Copy"), SAID_FOR_MS);
}

/** Copy the text of `source`; where the browser refuses, leave it selected and say false. */
async function copyText(source) {
  try {
    // Browsers have it on https and on localhost only.
    await navigator.clipboard.writeText(source.textContent);
    return true;
  } catch {
    const selection = getSelection();
    selection.removeAllRanges();
    const range = document.createRange();
    range.selectNodeContents(source);
    selection.addRange(range);
    return document.execCommand("copy");
  }
}

function announce(text) {
  let region = document.getElementById("announced");
  if (!region) {
    region = Object.assign(document.createElement("p"), { id: "announced", className: "hidden" });
    region.setAttribute("role", "status");
    document.body.append(region);
  }
  region.textContent = "";
  requestAnimationFrame(() => (region.textContent = text));
}
