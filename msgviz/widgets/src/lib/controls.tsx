import type { ComponentChildren, TargetedInputEvent, TargetedKeyboardEvent } from "preact";
import { useId } from "preact/hooks";

interface ButtonProps {
  children: ComponentChildren;
  onClick: () => void;
  testid: string;
  /** `primary`: the one thing to do here; `quiet`: without a border, for use inside lines and lists. */
  kind?: "plain" | "primary" | "danger" | "quiet";
  /** For a button that stays pressed. */
  pressed?: boolean;
  disabled?: boolean;
  /** What a screen reader says and the tooltip shows, where the children are only a sign. */
  label?: string;
}

export function Button({ children, onClick, testid, kind = "plain", pressed, disabled, label }: ButtonProps) {
  return (
    <button
      type="button"
      class={`mv-button mv-button-${kind}`}
      data-testid={testid}
      onClick={onClick}
      disabled={disabled ?? false}
      {...(pressed === undefined ? {} : { "aria-pressed": pressed })}
      {...(label === undefined ? {} : { "aria-label": label, title: label })}
    >
      {children}
    </button>
  );
}

interface FieldProps {
  label: string;
  value: string;
  onInput: (value: string) => void;
  testid: string;
  /** On Enter (with Ctrl or Cmd in a multi-line field). */
  onSubmit?: () => void;
  placeholder?: string;
  /** What is wrong with the value, in plain words; shown below the field. */
  error?: string | null;
  /** A monospace field, for code, ids and bodies. */
  code?: boolean;
  /** More than 1 makes a text area. */
  rows?: number;
  /** Only a screen reader gets the label; the placeholder then says it to the eye. */
  hideLabel?: boolean;
  type?: "text" | "search" | "number";
  disabled?: boolean;
}

export function Field(props: FieldProps) {
  const { label, value, onInput, testid, onSubmit, placeholder, error, code, rows = 1, hideLabel } = props;
  const id = useId();
  const type = props.type ?? "text";
  const shared = {
    id,
    value,
    placeholder: placeholder ?? "",
    disabled: props.disabled ?? false,
    class: `mv-input${code ? " mv-code" : ""}`,
    "data-testid": testid,
    "aria-invalid": Boolean(error),
    "aria-describedby": error ? `${id}-error` : undefined,
    spellcheck: false,
    autocomplete: "off",
    onInput: (event: TargetedInputEvent<HTMLInputElement | HTMLTextAreaElement>) =>
      onInput(event.currentTarget.value),
    onKeyDown: (event: TargetedKeyboardEvent<HTMLInputElement | HTMLTextAreaElement>) => {
      if (event.key !== "Enter" || !onSubmit) return;
      if (rows > 1 && !event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      onSubmit();
    },
  };
  return (
    <div class="mv-field">
      <label for={id} class={hideLabel ? "mv-hidden" : "mv-label"}>
        {label}
      </label>
      {rows > 1 ? <textarea rows={rows} {...shared} /> : <input {...shared} type={type as "text"} />}
      {error ? (
        <ErrorLine id={`${id}-error`} testid={`${testid}-error`}>
          {error}
        </ErrorLine>
      ) : null}
    </div>
  );
}

interface SelectProps {
  /** For a screen reader, where no `<label>` around it says it. */
  label?: string;
  testid: string;
  value: string;
  onChange: (value: string) => void;
  options: [value: string, name: string][];
}

export function Select({ label, testid, value, onChange, options }: SelectProps) {
  return (
    <select
      class="mv-input"
      aria-label={label}
      data-testid={testid}
      value={value}
      onChange={(event) => onChange(event.currentTarget.value)}
    >
      {options.map(([key, name]) => (
        <option key={key} value={key}>
          {name}
        </option>
      ))}
    </select>
  );
}

interface TabsProps<T> {
  label: string;
  tabs: { value: T; name: ComponentChildren; testid: string; title?: string }[];
  chosen: T | null;
  onChoose: (value: T) => void;
}

/** Buttons side by side, one of which stays pressed. */
export function Tabs<T extends string | number | boolean>({ label, tabs, chosen, onChoose }: TabsProps<T>) {
  return (
    <div class="mv-tabs" role="group" aria-label={label}>
      {tabs.map(({ value, name, testid, title }) => (
        <button
          key={String(value)}
          type="button"
          aria-pressed={value === chosen}
          title={title}
          data-testid={testid}
          onClick={() => onChoose(value)}
        >
          {name}
        </button>
      ))}
    </div>
  );
}

/** One sentence that says what to do first. */
export function EmptyState({ children, testid = "empty" }: { children: ComponentChildren; testid?: string }) {
  return (
    <div class="mv-empty" data-testid={testid} role="status">
      {children}
    </div>
  );
}

interface ErrorLineProps {
  children: ComponentChildren;
  testid?: string;
  id?: string;
  onDismiss?: () => void;
}

/** What went wrong and what to do, where it went wrong. */
export function ErrorLine({ children, testid = "error", id, onDismiss }: ErrorLineProps) {
  return (
    <div class="mv-error" role="alert" {...(id ? { id } : {})}>
      <span data-testid={testid}>{children}</span>
      {onDismiss ? (
        <Button kind="quiet" testid={`${testid}-dismiss`} label="Dismiss" onClick={onDismiss}>
          ×
        </Button>
      ) : null}
    </div>
  );
}

const TONES: Record<string, string> = {
  ok: "good",
  resolved: "good",
  sent: "good",
  ready: "info",
  pending: "info",
  in_flight: "info",
  replayed: "info",
  retrying: "warn",
  skipped: "idle",
  cancelled: "idle",
  error: "bad",
  dead: "bad",
  failed: "bad",
};

/** A state or outcome as a dot and its word. `count` follows the word where given. */
export function StateBadge({ state, count }: { state: string; count?: number }) {
  return (
    <span class={`mv-state mv-tone-${TONES[state] ?? "idle"}`} data-state={state}>
      {state.replaceAll("_", " ")}
      {count === undefined ? null : <span class="mv-count">{count.toLocaleString()}</span>}
    </span>
  );
}
