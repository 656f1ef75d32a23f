import { SystemFailure } from "../../../src/errors.ts";
import type { Api } from "../api/client.ts";
import { deleteObject, secretsPath } from "../api/pods.ts";
import { ApiFailure } from "../api/status.ts";
import { loginsName, type Owner, ownLabels } from "../pod/labels.ts";
import { TABLE } from "../settings/settings.ts";

export interface LoginSecretOptions {
  readonly api: Api;
  readonly owner: Owner;
  readonly namespace: string;
  readonly jobKey: string;
  /** As in a `config.json` of Docker. */
  readonly auths: unknown;
}

/** The secret of a job's logins to registries, in the cluster. */
export interface LoginSecret {
  readonly name: string;
  /** Makes the pod own the secret, so that the cluster removes the secret with the pod even if nobody else can. */
  ownBy(pod: { readonly name: string; readonly uid: string }, signal: AbortSignal): Promise<void>;
}

/** @throws {SystemFailure} the runner's login may not make secrets */
export async function createLoginSecret(options: LoginSecretOptions, signal: AbortSignal): Promise<LoginSecret> {
  const { api, owner, namespace, jobKey, auths } = options;
  const name = loginsName(jobKey);
  const metadata = { name, namespace, labels: ownLabels(owner, jobKey, "login") };
  const body = {
    apiVersion: "v1",
    kind: "Secret",
    metadata,
    type: "kubernetes.io/dockerconfigjson",
    data: { ".dockerconfigjson": Buffer.from(JSON.stringify({ auths })).toString("base64") },
  };
  const save = { what: "save the logins of the job", method: "POST", path: secretsPath(namespace), body } as const;
  const own = secretsPath(namespace, name);
  try {
    await api.call(save, signal);
  } catch (error) {
    if (!(error instanceof ApiFailure)) throw error;
    if (error.status === 403) {
      throw new SystemFailure(
        `The job has logins for its images, and the runner may not create secrets in "${namespace}": give its role that right, or use image_pull_secrets in [${TABLE}]: ${error.said}`,
        { reason: "runner_configuration_error", cause: error },
      );
    }
    if (error.status !== 409) throw error;
    // The old secret comes from an earlier try whose answer was lost, or from an earlier preparation of the same job.
    await deleteObject(api, { what: "replace logins", path: own, uid: null }, signal);
    await api.call(save, signal);
  }
  return {
    name,
    ownBy: async (pod, tying) => {
      const ownerReferences = [{ apiVersion: "v1", kind: "Pod", name: pod.name, uid: pod.uid }];
      const owned = { ...body, metadata: { ...metadata, ownerReferences } };
      try {
        await api.call({ what: "tie the logins to the pod", method: "PUT", path: own, body: owned }, tying);
      } catch (error) {
        // The job can go on without an owner for the secret, as `destroy` removes it in any case.
        if (!(error instanceof ApiFailure) || error.retry) throw error;
      }
    },
  };
}
