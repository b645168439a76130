import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import {
  AttributeList,
  type Body,
  Button,
  defineWidget,
  EmptyState,
  ErrorLine,
  formatDuration,
  formatSize,
  formatTime,
  LongBody,
  StateBadge,
  useModel,
  useShown,
  useTrait,
} from "../lib";
import { MessageId } from "../lib/message";
import { Attempts } from "./attempts";
import "./inspector.css";
import type { Content, Detail, Link, Replayed } from "./types";

function Inspector() {
  const [id, setId] = useTrait<string | null>("message_id");
  const [content, setContent] = useState<Content | null>(null);
  const [body, setBody] = useState<Body | null>(null);
  const [error, setError] = useState<string | null>(null);
  const [trail, setTrail] = useState<string[]>([]);
  const expected = useRef(id);
  const followed = useRef(false);
  const back = useRef<HTMLSpanElement>(null);

  const take = (next: Content): void => {
    setError(null);
    setContent(next);
    if ("body" in next) setBody(next.body ?? null);
  };
  useShown<Content>("detail", take, setError);
  useEffect(() => {
    // Somebody else selected a message: a table, a cell. The way back from links began elsewhere.
    if (id !== expected.current) setTrail([]);
    expected.current = id;
  }, [id]);

  useEffect(() => {
    // The link went away with the message it stood on, and the keyboard's place with it.
    if (followed.current) back.current?.querySelector("button")?.focus();
    followed.current = false;
  }, [content?.message_id]);

  const go = (target: string | null, nextTrail: string[]): void => {
    expected.current = target;
    setTrail(nextTrail);
    setId(target);
  };
  const follow = (target: string): void => {
    if (id === null || target === id) return;
    go(target, [...trail, id]);
    followed.current = true;
  };

  const bar =
    trail.length === 0 ? null : (
      <span ref={back}>
        <Button kind="quiet" testid="back" onClick={() => go(trail.at(-1) ?? null, trail.slice(0, -1))}>
          ← Back
        </Button>
      </span>
    );
  if (id === null || content?.message_id === null) {
    return (
      <EmptyState>
        Select a message in the table, or set <code>inspector.message_id</code>.
      </EmptyState>
    );
  }
  return (
    <>
      {error === null ? null : <ErrorLine>{error}</ErrorLine>}
      {content === null ? null : content.missing !== undefined ? (
        <>
          {bar ? <div class="mv-bar">{bar}</div> : null}
          <EmptyState testid="missing">{content.missing}</EmptyState>
        </>
      ) : (
        <Message key={content.message_id} detail={content} body={body} bar={bar} onFollow={follow} />
      )}
    </>
  );
}

interface MessageProps {
  detail: Detail;
  body: Body | null;
  bar: ComponentChildren;
  onFollow: (id: string) => void;
}

function Message({ detail, body, bar, onFollow }: MessageProps) {
  const model = useModel();
  return (
    <article class="mv-inspector-message" data-testid="message" data-message-id={detail.message_id}>
      <Head detail={detail} bar={bar} onFollow={onFollow} />
      <div class="mv-inspector-columns">
        <div>
          <section aria-label="Body">
            <LongBody body={body} ask={(at) => model.request<Body>("body", { message_id: detail.message_id, at })} />
          </section>
          <section aria-label="Attributes">
            <h4>Attributes</h4>
            <AttributeList attributes={detail.attributes} />
          </section>
        </div>
        <div>
          <Attempts detail={detail} />
          <Around detail={detail} onFollow={onFollow} />
        </div>
      </div>
    </article>
  );
}

function Head({ detail, bar, onFollow }: Omit<MessageProps, "body">) {
  const model = useModel();
  const [copies] = useTrait<boolean>("_copies");
  const [busy, setBusy] = useState(false);
  const [replayed, setReplayed] = useState<Replayed[] | null>(null);
  const [copied, setCopied] = useState(false);
  const [error, setError] = useState<string | null>(null);
  const ask = <T,>(op: string, then: (value: T) => void): void => {
    setBusy(true);
    setError(null);
    setCopied(false);
    model
      .request<T>(op, { message_id: detail.message_id })
      .then(then)
      .catch((problem: Error) => setError(problem.message))
      .finally(() => setBusy(false));
  };
  const facts = [
    detail.published === null ? null : formatTime(detail.published, true),
    formatSize(detail.size),
    detail.latency === null ? null : `${formatDuration(detail.latency)} to the first success`,
  ].filter((fact) => fact !== null);
  const underWay = ["pending", "in_flight", "retrying"].includes(detail.state);
  return (
    <header class="mv-inspector-head">
      <div class="mv-message-title">
        {bar}
        <StateBadge state={detail.state} />
        <bdi class="mv-message-topic" data-testid="topic">
          {detail.topic ?? "no topic"}
        </bdi>
        <MessageId id={detail.message_id} testid="message-id" />
      </div>
      <div class="mv-inspector-actions">
        {copies ? (
          <Button
            testid="copy"
            disabled={busy || !detail.kept}
            onClick={() => ask("copy", () => setCopied(true))}
          >
            {copied ? "Copied" : "Copy into the form"}
          </Button>
        ) : null}
        {detail.replay.ready || underWay ? (
          <Button
            testid="replay"
            disabled={busy || !detail.replay.ready}
            {...(detail.replay.reason === null ? {} : { label: `Replay: ${detail.replay.reason}` })}
            onClick={() => ask("replay", setReplayed)}
          >
            Replay
          </Button>
        ) : null}
      </div>
      <div class="mv-inspector-facts mv-dim" data-testid="facts">
        {facts.map((fact) => (
          <span key={fact}>{fact}</span>
        ))}
      </div>
      {error === null ? null : (
        <ErrorLine testid="action-error" onDismiss={() => setError(null)}>
          {error}
        </ErrorLine>
      )}
      {replayed === null ? null : (
        <div class="mv-inspector-outcome" role="status" data-testid="replay-outcome">
          <div>
            {replayed.map((entry, index) => (
              <ReplayLine key={index} entry={entry} onFollow={onFollow} />
            ))}
          </div>
          <Button kind="quiet" testid="replay-dismiss" label="Dismiss" onClick={() => setReplayed(null)}>
            ×
          </Button>
        </div>
      )}
    </header>
  );
}

function ReplayLine({ entry, onFollow }: { entry: Replayed; onFollow: (id: string) => void }) {
  return (
    <div>
      <StateBadge state={entry.status} />
      {entry.subscription === null ? null : (
        <span>
          {" "}
          to <bdi>{entry.subscription}</bdi>
        </span>
      )}
      {entry.replay_id === null ? null : (
        <span>
          {" "}
          as <MessageLink link={{ id: entry.replay_id, state: "" }} onFollow={onFollow} />
        </span>
      )}
      {entry.reason === null ? null : <span>: {entry.reason}</span>}
    </div>
  );
}

/** The messages this one comes from, and those that came from it. */
function Around({ detail, onFollow }: { detail: Detail; onFollow: (id: string) => void }) {
  const { conversation, parent, children, replay_of, replays } = detail;
  const lines: [string, string, Link[], number][] = [
    ["parent", "caused by", parent ? [parent] : [], 1],
    ["children", "caused", children, detail.children_count],
    ["replay-of", "replay of", replay_of ? [replay_of] : [], 1],
    ["replays", "replayed as", replays, detail.replays_count],
  ];
  return (
    <section aria-label="Related messages">
      <dl class="mv-inspector-around">
        {lines.map(([name, label, links, count]) =>
          links.length === 0 ? null : (
            <div key={name} data-testid={name}>
              <dt>{label}</dt>
              <dd>
                {links.map((link) => (
                  <MessageLink key={link.id} link={link} onFollow={onFollow} />
                ))}
                {count > links.length ? <span class="mv-dim">and {count - links.length} more</span> : null}
              </dd>
            </div>
          ),
        )}
        <div data-testid="conversation">
          <dt>conversation</dt>
          <dd>
            {conversation.id === detail.message_id || conversation.state === null ? (
              <span class="mv-code mv-dim">{conversation.id}</span>
            ) : (
              <MessageLink link={conversation} onFollow={onFollow} />
            )}
          </dd>
        </div>
      </dl>
    </section>
  );
}

function MessageLink({ link, onFollow }: { link: Link; onFollow: (id: string) => void }) {
  if (link.state === null) {
    return (
      <span class="mv-dim" title="The log no longer has it.">
        <span class="mv-code">{link.id}</span> (dropped)
      </span>
    );
  }
  return (
    <span class="mv-inspector-link">
      <button type="button" class="mv-code" data-testid="link" onClick={() => onFollow(link.id)}>
        {link.id}
      </button>
      {link.state === "" ? null : <StateBadge state={link.state} />}
    </span>
  );
}

export default defineWidget("inspector", Inspector);
