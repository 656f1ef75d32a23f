import { machineContract } from "./machine-contract.ts";
import { VERSIONS } from "./machine-stand.ts";

machineContract("virtualbox", VERSIONS["6.1"]);
