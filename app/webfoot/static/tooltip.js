// What is under the pointer, in words, beside it.

import { element } from "./table.js";

const GAP = 14;

/** A tooltip inside `host`, which must be positioned. */
export function makeTooltip(host) {
  const box = element("dl", { className: "tooltip", hidden: true });
  box.setAttribute("aria-hidden", "true");
  host.append(box);

  return {
    /** Show `pairs` of names and texts at the place (x, y) of the host. */
    show(pairs, x, y) {
      box.replaceChildren();
      for (const [name, text] of pairs) {
        box.append(element("dt", { textContent: name }), element("dd", { textContent: text }));
      }
      box.hidden = false;
      const left =
        x + GAP + box.offsetWidth > host.clientWidth ? x - GAP - box.offsetWidth : x + GAP;
      const lowest = host.clientHeight - box.offsetHeight - 4;
      box.style.left = `${Math.max(4, Math.min(left, host.clientWidth - box.offsetWidth - 4))}px`;
      box.style.top = `${Math.max(4, Math.min(y + GAP, lowest))}px`;
    },
    hide() {
      box.hidden = true;
    },
  };
}
