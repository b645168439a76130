/** The kernel's side of a widget, as the browser sees it: traits, and messages `{op, …}` both ways. */
import { createContext } from "preact";
import { useContext, useEffect, useRef, useState } from "preact/hooks";

/** What anywidget hands to `render`. */
export interface AnyModel {
  get(name: string): unknown;
  set(name: string, value: unknown): void;
  save_changes(): void;
  on(event: string, listener: (...values: never[]) => void): void;
  off(event: string, listener: (...values: never[]) => void): void;
  send(content: unknown): void;
}

type Content = Record<string, unknown>;
type Listener = (content: Content) => void;

const MOST_EARLY = 100;

/** A request that the kernel answered with an error; the message is meant for the person. */
export class KernelError extends Error {}

/** One view's connection to its widget in the kernel. Several views of a widget may exist at once. */
export class Channel {
  /** Names this view, so that the kernel can tell the views of one widget apart. */
  readonly view = Math.random().toString(36).slice(2, 10);
  readonly #listeners = new Map<string, Set<Listener>>();
  readonly #waiting = new Map<string, { resolve(value: unknown): void; reject(error: Error): void }>();
  /** Messages that came before anybody listened: components begin to, only after they were drawn. */
  readonly #early = new Map<string, Content[]>();
  #requests = 0;

  constructor(readonly model: AnyModel) {
    model.on("msg:custom", this.#receive);
    this.send("view", { view: this.view, shown: true });
  }

  /** Calls the kernel's handler of `op`; what goes wrong there is shown on top of the widget. */
  send(op: string, content: Content = {}): void {
    this.model.send({ ...content, op });
  }

  /** Calls the kernel's handler of `op` and gives what it returned; rejects with a KernelError. */
  request<T>(op: string, content: Content = {}): Promise<T> {
    const id = `${this.view}:${++this.#requests}`;
    return new Promise<T>((resolve, reject) => {
      this.#waiting.set(id, { resolve: (value) => resolve(value as T), reject });
      this.model.send({ ...content, op, id });
    });
  }

  /** Listens to the messages `op` that the kernel sends; returns what ends the listening. */
  on<T>(op: string, listener: (content: T) => void): () => void {
    const listeners = this.#listeners.get(op) ?? new Set();
    this.#listeners.set(op, listeners.add(listener as unknown as Listener));
    const early = this.#early.get(op) ?? [];
    this.#early.delete(op);
    for (const content of early) listener(content as T);
    return () => listeners.delete(listener as unknown as Listener);
  }

  close(): void {
    this.send("view", { view: this.view, shown: false });
    this.model.off("msg:custom", this.#receive);
    this.#listeners.clear();
    this.#early.clear();
    this.#waiting.clear();
  }

  readonly #receive = (content: Content): void => {
    const op = String(content["op"]);
    if (op === "reply") {
      const id = String(content["id"]);
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (content["error"] === undefined) waiting?.resolve(content["value"]);
      else waiting?.reject(new KernelError(String(content["error"])));
      return;
    }
    const listeners = this.#listeners.get(op);
    if (listeners === undefined) this.#early.set(op, [...(this.#early.get(op) ?? []), content].slice(-MOST_EARLY));
    else for (const listener of listeners) listener(content);
  };
}

const NoChannel = createContext<Channel | null>(null);
export const ChannelProvider = NoChannel.Provider;

export function useModel(): Channel {
  const channel = useContext(NoChannel);
  if (channel === null) throw new Error("useModel() is for components below defineWidget()");
  return channel;
}

/** A synced trait of the widget and its setter, which also sets it in the kernel. */
export function useTrait<T>(name: string): [T, (value: T) => void] {
  const { model } = useModel();
  const [value, setValue] = useState(model.get(name) as T);
  useEffect(() => {
    const update = (): void => setValue(() => model.get(name) as T);
    update();
    model.on(`change:${name}`, update);
    return () => model.off(`change:${name}`, update);
  }, [model, name]);
  const change = (next: T): void => {
    model.set(name, next);
    model.save_changes();
  };
  return [value, change];
}

/** Calls `listener` for every message `op` from the kernel while the component is mounted. */
export function useMessages<T>(op: string, listener: (content: T) => void): void {
  const channel = useModel();
  const latest = useRef(listener);
  latest.current = listener;
  useEffect(() => channel.on<T>(op, (content) => latest.current(content)), [channel, op]);
}

/** Takes what the kernel shows: what it answers to `show` at first, then what it sends as `op`. */
export function useShown<T>(op: string, take: (value: T) => void, failed: (problem: string) => void): void {
  const channel = useModel();
  useMessages<{ value: T }>(op, ({ value }) => take(value));
  useEffect(() => {
    channel
      .request<T>("show")
      .then(take)
      .catch((problem: Error) => failed(problem.message));
  }, [channel]);
}
