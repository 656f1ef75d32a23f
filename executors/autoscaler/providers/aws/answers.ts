import { z } from "zod";

/** Empty elements are texts. */
const listOf = <T extends z.ZodType>(each: T, key: "member" | "item") =>
  z
    .union([z.literal(""), z.object({ [key]: z.array(each) })])
    .optional()
    .transform((value): z.output<T>[] => (value === undefined || value === "" ? [] : (value[key] ?? [])));

const number = z.string().regex(/^\d+$/).transform(Number);

const group = z
  .object({
    MinSize: number,
    MaxSize: number,
    DesiredCapacity: number,
    NewInstancesProtectedFromScaleIn: z.string().default("false"),
    AvailabilityZones: listOf(z.string(), "member"),
    SuspendedProcesses: listOf(z.object({ ProcessName: z.string() }), "member"),
    Instances: listOf(z.object({ InstanceId: z.string(), LifecycleState: z.string() }), "member"),
  })
  .transform((given) => ({
    least: given.MinSize,
    most: given.MaxSize,
    desired: given.DesiredCapacity,
    isProtected: given.NewInstancesProtectedFromScaleIn === "true",
    zones: given.AvailabilityZones,
    suspended: given.SuspendedProcesses.map(({ ProcessName }) => ProcessName),
    instances: given.Instances.map(({ InstanceId, LifecycleState }) => ({ id: InstanceId, state: LifecycleState })),
  }));

export type Group = z.output<typeof group>;

/** Of `DescribeAutoScalingGroups`. */
export const groupsAnswer = z
  .object({
    DescribeAutoScalingGroupsResponse: z.object({
      DescribeAutoScalingGroupsResult: z.object({ AutoScalingGroups: listOf(group, "member") }),
    }),
  })
  .transform((given) => given.DescribeAutoScalingGroupsResponse.DescribeAutoScalingGroupsResult.AutoScalingGroups);

const instance = z
  .object({
    instanceId: z.string(),
    instanceState: z.object({ name: z.string() }),
    placement: z.object({ availabilityZone: z.string() }),
    privateIpAddress: z.string().optional(),
    ipAddress: z.string().optional(),
    platform: z.string().optional(),
  })
  .transform((given) => ({
    id: given.instanceId,
    state: given.instanceState.name,
    zone: given.placement.availabilityZone,
    internal: given.privateIpAddress || null,
    external: given.ipAddress || null,
    isWindows: given.platform === "windows",
  }));

/** Of `DescribeInstances`. */
export const instancesAnswer = z
  .object({
    DescribeInstancesResponse: z.object({
      reservationSet: listOf(z.object({ instancesSet: listOf(instance, "item") }), "item"),
    }),
  })
  .transform(({ DescribeInstancesResponse: { reservationSet } }) =>
    reservationSet.flatMap(({ instancesSet }) => instancesSet),
  );

/** Of actions whose answer says nothing but that it was done. */
export const anyAnswer = z.unknown();

const error = z.object({ Code: z.string(), Message: z.string().default("") });

/** What is said instead of an answer: by Auto Scaling, by EC2, in JSON. */
export const failureSchema = z.union([
  z
    .object({ ErrorResponse: z.object({ Error: error }) })
    .transform(({ ErrorResponse: { Error: said } }) => ({ code: said.Code, message: said.Message })),
  z
    .object({ Response: z.object({ Errors: z.object({ Error: error }) }) })
    .transform(({ Response: { Errors } }) => ({ code: Errors.Error.Code, message: Errors.Error.Message })),
  z
    .object({ __type: z.string(), message: z.string().optional(), Message: z.string().optional() })
    .transform((said) => ({ code: said.__type.replace(/^.*#/, ""), message: said.message ?? said.Message ?? "" })),
]);
