/** An SVG document from the kernel, kept on the page: what changed is changed in place. */

const ours = ["tabindex", "role", "aria-pressed", "aria-label", "data-lm-suppress-shortcuts"];

/** The root of an SVG document; null for what is none. Text in it stays text: nothing is read as HTML. */
export function parse(text: string): SVGElement | null {
  const root = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
  return root instanceof SVGElement && root.localName === "svg" ? root : null;
}

/** Makes what `host` shows the same as `next`, keeping every element that has its match there. */
export function show(host: Element, next: SVGElement): void {
  const shown = host.firstElementChild;
  if (shown === null) host.append(document.importNode(next, true));
  else patch(shown, next);
  host.firstElementChild?.setAttribute("role", "presentation"); // no image, with buttons in it
  for (const element of elements(host)) {
    element.setAttribute("role", "button");
    element.setAttribute("aria-label", element.querySelector("title")?.textContent ?? "");
    if (!element.hasAttribute("tabindex")) element.setAttribute("tabindex", "-1");
  }
}

/** The nodes and edges of the picture. */
export function elements(host: Element): SVGElement[] {
  return [...host.querySelectorAll<SVGElement>("g[data-name]")];
}

function patch(shown: Element, next: Element): void {
  for (const { name } of [...shown.attributes]) {
    if (!next.hasAttribute(name) && !ours.includes(name)) shown.removeAttribute(name);
  }
  for (const { name, value } of next.attributes) {
    if (shown.getAttribute(name) !== value && !ours.includes(name)) shown.setAttribute(name, value);
  }
  if (next.childElementCount === 0) {
    if (shown.childElementCount > 0 || shown.textContent !== next.textContent) shown.textContent = next.textContent;
    return;
  }
  const keyed = new Map([...shown.children].map((child) => [child.getAttribute("data-key"), child]));
  const wanted = [...next.children];
  wanted.forEach((child, index) => {
    const key = child.getAttribute("data-key");
    const here = shown.children[index] ?? null;
    const match = key === null ? here : (keyed.get(key) ?? null);
    if (match === null || match.localName !== child.localName || match.getAttribute("data-key") !== key) {
      const made = document.importNode(child, true);
      if (key === null && here !== null && !here.hasAttribute("data-key")) here.replaceWith(made);
      else shown.insertBefore(made, here);
      return;
    }
    // What is here and is wanted no more: taken out, so that what stays need not move and keeps the focus.
    for (let other = here; other !== null && other !== match; ) {
      const after: Element | null = other.nextElementSibling;
      other.remove();
      other = after;
    }
    patch(match, child);
  });
  while (shown.children.length > wanted.length) shown.lastElementChild?.remove();
  // Text beside elements: that of a line whose whole is in its title.
  const text = [...next.childNodes].find((node) => node.nodeType === Node.TEXT_NODE)?.nodeValue ?? "";
  const old = [...shown.childNodes].find((node) => node.nodeType === Node.TEXT_NODE);
  if (old !== undefined) {
    if (old.nodeValue !== text) old.nodeValue = text;
  } else if (text !== "") shown.insertBefore(document.createTextNode(text), shown.firstChild);
}

/** The one after it (or before) as they stand on the page, column by column. */
export function beside(host: Element, from: Element, step: 1 | -1): SVGElement | undefined {
  const placed = elements(host).map((element) => ({ element, at: element.getBoundingClientRect() }));
  placed.sort((a, b) => a.at.left - b.at.left || a.at.top - b.at.top);
  const found = placed.findIndex(({ element }) => element === from);
  return placed[found + step]?.element;
}
