import { useState } from "preact/hooks";
import { Button, EmptyState, ErrorLine, Field, formatSize } from "../lib";
import { PickerFrame, PickerList, useRecent } from "../lib/picker";
import "./picker.css";
import type { Observed } from "./types";

interface Props {
  selected: string | null;
  onPick: (id: string) => void;
}

/** The messages whose layers were observed, the newest first, to choose one. */
export function Picker({ selected, onPick }: Props) {
  const [search, setSearch] = useState("");
  const { recent, error, load, stale, held, pointed, watch } = useRecent<Observed>(search);
  const submit = (): void => {
    const text = search.trim();
    const only = recent?.items.length === 1 ? recent.items[0]?.id : undefined;
    if (text !== "") onPick(only ?? text);
  };

  if (recent !== null && recent.items.length === 0 && recent.begun === 0 && search === "") {
    return (
      <EmptyState>
        No layers were observed yet. Observe a chain with <code>layers=True</code>, such as{" "}
        <code>mv.observe(backend, log, layers=True)</code>, then publish a message.
      </EmptyState>
    );
  }
  return (
    <PickerFrame>
      <div class="mv-bar">
        <span class="mv-dim mv-chainview-said" data-testid="said">
          {search !== ""
            ? "Found"
            : stale && pointed
              ? "Newer messages come when the pointer leaves the list"
              : "Messages whose layers were observed, the newest first"}
        </span>
        <div class="mv-fill">
          <Field
            label="Search by id"
            hideLabel
            type="search"
            code
            placeholder="Search by id"
            value={search}
            onInput={setSearch}
            onSubmit={submit}
            testid="search"
          />
        </div>
        {stale && held && !pointed ? (
          <Button testid="newer" onClick={load}>
            Show newer
          </Button>
        ) : null}
      </div>
      {error === null ? null : <ErrorLine>{error}</ErrorLine>}
      {recent === null ? null : recent.items.length === 0 ? (
        <EmptyState testid="no-match">No message whose layers were observed has this in its id.</EmptyState>
      ) : (
        <PickerList
          items={recent.items}
          selected={selected}
          onPick={onPick}
          watch={watch}
          testid="recent-message"
        >
          {(item) => (
            <>
              <span class="mv-code mv-picker-name mv-chainview-id">{item.id}</span>
              <span class="mv-picker-number mv-chainview-size">
                {item.size === null ? "" : formatSize(item.size)}
              </span>
              <span class="mv-picker-name mv-chainview-where" data-testid="recent-problem">
                {item.problem === null ? null : (
                  <>
                    <span class="mv-chainview-cross" aria-hidden="true">
                      ✕
                    </span>{" "}
                    problem in <bdi>{item.problem}</bdi>
                  </>
                )}
              </span>
            </>
          )}
        </PickerList>
      )}
      {recent?.more ? (
        <div class="mv-dim mv-picker-more">There are more: search by id, or set chainview.message_id.</div>
      ) : null}
    </PickerFrame>
  );
}
