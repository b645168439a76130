/**
 * What is selected: single cases, and whole groups but for some of their cases. A whole group means its open
 * cases, also those that the browser has not been told of and those that fail later.
 */
export interface Selection {
  /** Each with the group it stood in when it was selected; it stays selected when it moves to another. */
  readonly cases: ReadonlyMap<number, number>;
  /** Groups, with the cases that are left out. */
  readonly groups: ReadonlyMap<number, ReadonlySet<number>>;
}

export const NOTHING: Selection = { cases: new Map(), groups: new Map() };

export function has({ cases, groups }: Selection, group: number, key: number): boolean {
  const out = groups.get(group);
  return cases.has(key) || (out !== undefined && !out.has(key));
}

export function toggle({ cases, groups }: Selection, group: number, key: number): Selection {
  const out = groups.get(group);
  if (cases.has(key) || out === undefined) {
    const next = new Map(cases);
    if (!next.delete(key)) next.set(key, group);
    return { cases: next, groups };
  }
  const left = new Set(out);
  if (!left.delete(key)) left.add(key);
  return { cases, groups: new Map(groups).set(group, left) };
}

export function setAll({ cases, groups }: Selection, group: number, all: boolean): Selection {
  const next = new Map(groups);
  if (all) next.set(group, new Set());
  else next.delete(group);
  return { cases: new Map([...cases].filter(([, home]) => home !== group)), groups: next };
}

/** How many are selected in a group that has so many open cases. */
export function countOf({ cases, groups }: Selection, group: number, open: number): number {
  const out = groups.get(group);
  if (out !== undefined) return Math.max(0, open - out.size);
  let count = 0;
  for (const home of cases.values()) if (home === group) count += 1;
  return Math.min(count, open);
}

export const isEmpty = ({ cases, groups }: Selection): boolean => cases.size === 0 && groups.size === 0;

/** The selection as the kernel takes it. */
export const toContent = ({ cases, groups }: Selection) => ({
  marked: [...cases.keys()],
  groups: [...groups].map(([group, out]) => ({ group, except: [...out] })),
});
