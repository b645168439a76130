/** An SVG document from the kernel, kept on the page: what changed is changed in place. */
import { useLayoutEffect, useRef } from "preact/hooks";
import "./picture.css";

interface Options {
  /** The document; null or empty while there is none. */
  svg: string | null;
  /** Which attribute says what is selected with an element: `key` for itself, `of` for what it is a part of. */
  by: "key" | "of";
  selected: string;
  onSelect: (name: string) => void;
  /** The element that an arrow key leads to. */
  beside?: (host: Element, from: SVGElement, step: 1 | -1) => SVGElement | undefined;
}

const STEPS: Record<string, 1 | -1> = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 };

/** Shows a picture whose elements can be selected, in `host`: a div of the class `mv-picture` with the `handlers`. */
export function usePicture({ svg, by, selected, onSelect, beside = after }: Options) {
  const host = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    const root = svg ? parse(svg) : null;
    if (host.current === null || root === null) return;
    show(host.current, root);
    const all = elements(host.current);
    // One stop for the Tab key; the arrows go on from there.
    if (!all.some((element) => element.getAttribute("tabindex") === "0")) all[0]?.setAttribute("tabindex", "0");
  }, [svg]);
  useLayoutEffect(() => {
    if (host.current === null) return;
    for (const element of elements(host.current)) {
      element.setAttribute("aria-pressed", String(element.dataset[by] === selected));
    }
  }, [svg, selected]);

  const onClick = (event: Event): void => {
    const element = elementOf(event);
    if (element !== null) onSelect(element.dataset[by] ?? "");
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    const element = elementOf(event);
    if (element === null || host.current === null) return;
    const step = STEPS[event.key];
    if (event.key === "Enter" || event.key === " ") onSelect(element.dataset[by] ?? "");
    else if (step !== undefined) beside(host.current, element, step)?.focus();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const onFocusIn = (event: FocusEvent): void => {
    const element = elementOf(event);
    if (element === null || host.current === null) return;
    for (const other of elements(host.current)) other.setAttribute("tabindex", other === element ? "0" : "-1");
  };
  return { host, handlers: { onClick, onKeyDown, onFocusIn } };
}

function elementOf(event: Event): SVGElement | null {
  return event.target instanceof Element ? event.target.closest<SVGElement>("g[data-name]") : null;
}

function after(host: Element, from: SVGElement, step: 1 | -1): SVGElement | undefined {
  const all = elements(host);
  return all[all.indexOf(from) + step];
}

/** Gives the person an SVG document as a file. */
export function download(svg: string, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

const ours = ["tabindex", "role", "aria-pressed", "aria-label", "data-lm-suppress-shortcuts"];

/** The root of an SVG document; null for what is none. Text in it stays text: nothing is read as HTML. */
function parse(text: string): SVGElement | null {
  const root = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
  return root instanceof SVGElement && root.localName === "svg" ? root : null;
}

/** Makes what `host` shows the same as `next`, keeping every element that has its match there. */
function show(host: Element, next: SVGElement): void {
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

/** What can be selected in the picture. */
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
