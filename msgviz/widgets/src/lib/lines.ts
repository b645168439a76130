/** For `onKeyDown`: the arrow keys go from one element with `data-line` to the next, which this gives. */
export function moveLine(event: KeyboardEvent): HTMLElement | undefined {
  const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
  const target = event.target as HTMLElement;
  if (step === 0 || !target.matches("[data-line]")) return undefined;
  const lines = [...(event.currentTarget as HTMLElement).querySelectorAll<HTMLElement>("[data-line]")];
  const next = lines[lines.indexOf(target) + step];
  next?.focus();
  event.preventDefault();
  return next;
}
