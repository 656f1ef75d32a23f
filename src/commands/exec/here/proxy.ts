import { createConnections } from "../../../coordinator/connection/connections.ts";
import type { CommandContext } from "../../context.ts";

/** Neither the runner nor git may ask a proxy for `hosts`, which are this machine. */
export function withoutProxyFor(
  hosts: readonly string[],
  context: CommandContext,
): { context: CommandContext; environment: { key: string; value: string }[] } {
  const { env } = context;
  if (!Object.keys(env).some((name) => /^(?:https?|all)_proxy$/i.test(name))) return { context, environment: [] };
  const value = [...new Set([...(env.no_proxy || env.NO_PROXY || "").split(","), ...hosts])].filter(Boolean).join(",");
  const direct = { ...env, no_proxy: value, NO_PROXY: value };
  const connections = createConnections({ environment: direct });
  return {
    context: { ...context, env: direct, coordinator: { ...context.coordinator, connections } },
    environment: ["no_proxy", "NO_PROXY"].map((key) => ({ key, value })),
  };
}
