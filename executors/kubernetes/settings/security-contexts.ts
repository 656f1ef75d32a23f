import { z } from "zod";
import { optionalText } from "../../images/fields.ts";
import { filled, id, maybe, words } from "./fields.ts";

/** Who the processes of a pod are and what they may do. The outputs are named as the API names them. */

const profile = z
  .object({ type: words(["RuntimeDefault", "Localhost", "Unconfined"]), localhost_profile: optionalText })
  .superRefine(({ type, localhost_profile }, context) => {
    if ((type === "Localhost") === (localhost_profile !== undefined)) return;
    context.addIssue({
      code: "custom",
      path: ["localhost_profile"],
      message: 'belongs to the type "Localhost", and is needed there',
    });
  })
  .transform((given) => filled({ type: given.type, localhostProfile: given.localhost_profile }))
  .optional();

const seLinux = optionalText.transform((type) => (type === undefined ? undefined : { type }));
const shared = {
  run_as_user: id,
  run_as_group: id,
  run_as_non_root: maybe,
  selinux_type: seLinux,
  seccomp_profile: profile,
  app_armor_profile: profile,
};

export const podSecurityContext = z
  .object({ ...shared, fs_group: id, supplemental_groups: z.array(z.number().int().min(0)).optional() })
  .transform((given) =>
    filled({
      runAsUser: given.run_as_user,
      runAsGroup: given.run_as_group,
      runAsNonRoot: given.run_as_non_root,
      fsGroup: given.fs_group,
      supplementalGroups: given.supplemental_groups,
      seLinuxOptions: given.selinux_type,
      seccompProfile: given.seccomp_profile,
      appArmorProfile: given.app_armor_profile,
    }),
  )
  .optional();

export const containerSecurityContext = z
  .object({
    ...shared,
    capabilities: z
      .object({ add: z.array(z.string()).optional(), drop: z.array(z.string()).optional() })
      .transform((given) => filled(given))
      .optional(),
    privileged: maybe,
    allow_privilege_escalation: maybe,
    read_only_root_filesystem: maybe,
    proc_mount: words(["Default", "Unmasked"]),
  })
  .transform((given) => ({
    runAsUser: given.run_as_user,
    runAsGroup: given.run_as_group,
    runAsNonRoot: given.run_as_non_root,
    seLinuxOptions: given.selinux_type,
    seccompProfile: given.seccomp_profile,
    appArmorProfile: given.app_armor_profile,
    capabilities: given.capabilities,
    privileged: given.privileged,
    allowPrivilegeEscalation: given.allow_privilege_escalation,
    readOnlyRootFilesystem: given.read_only_root_filesystem,
    procMount: given.proc_mount,
  }))
  .optional();
