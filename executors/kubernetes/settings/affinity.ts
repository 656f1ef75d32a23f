import { z } from "zod";
import { filled, words } from "./fields.ts";

/** `[runners.kubernetes.affinity]`: which nodes a pod wants. The output is named as the API names it. */

const expression = z
  .object({
    key: z.string(),
    operator: words(["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]),
    values: z.array(z.string()).optional(),
  })
  .transform((given) => filled(given));
const term = z
  .object({ match_expressions: z.array(expression).optional(), match_fields: z.array(expression).optional() })
  .transform((given) => filled({ matchExpressions: given.match_expressions, matchFields: given.match_fields }));
const selector = z
  .object({
    match_labels: z.record(z.string(), z.string()).optional(),
    match_expressions: z.array(expression).optional(),
  })
  .transform((given) => filled({ matchLabels: given.match_labels, matchExpressions: given.match_expressions }) ?? {})
  .optional();
const podTerm = z
  .object({
    label_selector: selector,
    namespaces: z.array(z.string()).optional(),
    topology_key: z.string().min(1, "is empty. Name a label of nodes"),
    namespace_selector: selector,
    match_label_keys: z.array(z.string()).optional(),
    mismatch_label_keys: z.array(z.string()).optional(),
  })
  .transform((given) =>
    filled({
      labelSelector: given.label_selector,
      namespaces: given.namespaces,
      topologyKey: given.topology_key,
      namespaceSelector: given.namespace_selector,
      matchLabelKeys: given.match_label_keys,
      mismatchLabelKeys: given.mismatch_label_keys,
    }),
  );
const weight = z.number().int().min(1).max(100);
const podAffinity = z
  .object({
    required_during_scheduling_ignored_during_execution: z.array(podTerm).optional(),
    preferred_during_scheduling_ignored_during_execution: z
      .array(
        z
          .object({ weight, pod_affinity_term: podTerm })
          .transform((given) => ({ weight: given.weight, podAffinityTerm: given.pod_affinity_term })),
      )
      .optional(),
  })
  .transform((given) =>
    filled({
      requiredDuringSchedulingIgnoredDuringExecution: given.required_during_scheduling_ignored_during_execution,
      preferredDuringSchedulingIgnoredDuringExecution: given.preferred_during_scheduling_ignored_during_execution,
    }),
  )
  .optional();

export const affinity = z
  .object({
    node_affinity: z
      .object({
        required_during_scheduling_ignored_during_execution: z
          .object({ node_selector_terms: z.array(term) })
          .transform((given) => ({ nodeSelectorTerms: given.node_selector_terms }))
          .optional(),
        preferred_during_scheduling_ignored_during_execution: z
          .array(z.object({ weight, preference: term }))
          .optional(),
      })
      .transform((given) =>
        filled({
          requiredDuringSchedulingIgnoredDuringExecution: given.required_during_scheduling_ignored_during_execution,
          preferredDuringSchedulingIgnoredDuringExecution: given.preferred_during_scheduling_ignored_during_execution,
        }),
      )
      .optional(),
    pod_affinity: podAffinity,
    pod_anti_affinity: podAffinity,
  })
  .transform((given) =>
    filled({
      nodeAffinity: given.node_affinity,
      podAffinity: given.pod_affinity,
      podAntiAffinity: given.pod_anti_affinity,
    }),
  )
  .optional();
