import { machineContract } from "./machine-contract.ts";

machineContract("parallels", "19.1.0");
