export { AttributeList } from "./attributes";
export { BodyView, type Body } from "./body";
export { Button, EmptyState, ErrorLine, Field, Select, StateBadge, Tabs } from "./controls";
export { CopyButton } from "./copy";
export { formatCount, formatDuration, formatSize, formatTime } from "./format";
export { LongBody } from "./longbody";
export { type Pair, PairsField, pairsProblem } from "./pairs";
export { type Channel, KernelError, useMessages, useModel, useShown, useTrait } from "./model";
export { defineWidget } from "./widget";
