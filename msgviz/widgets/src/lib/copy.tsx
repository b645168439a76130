import { useEffect, useState } from "preact/hooks";
import { Button } from "./controls";

interface Props {
  text: string;
  testid: string;
  label: string;
}

/** Puts a text on the clipboard, and says so for a moment. */
export function CopyButton({ text, testid, label }: Props) {
  const [said, setSaid] = useState<string | null>(null);
  useEffect(() => {
    if (said === null) return;
    const timer = setTimeout(() => setSaid(null), 1500);
    return () => clearTimeout(timer);
  }, [said]);
  const copy = async (): Promise<void> => setSaid((await toClipboard(text)) ? "copied" : "press Ctrl C");
  return (
    <>
      <Button kind="quiet" testid={testid} label={label} onClick={() => void copy()}>
        <svg width="12" height="12" viewBox="0 0 12 12" fill="none" stroke="currentColor" aria-hidden="true">
          <rect x="0.5" y="3.5" width="8" height="8" rx="1" />
          <path d="M3.5 3.5v-2a1 1 0 0 1 1-1h6a1 1 0 0 1 1 1v6a1 1 0 0 1-1 1h-2" />
        </svg>
      </Button>
      <span class="mv-dim" role="status">
        {said}
      </span>
    </>
  );
}

async function toClipboard(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Not allowed, or a page that came over plain http from another machine.
    const field = document.createElement("textarea");
    field.value = text;
    field.style.position = "fixed";
    field.style.opacity = "0";
    document.body.append(field);
    const before = document.activeElement;
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    if (before instanceof HTMLElement) before.focus();
    return done;
  }
}
