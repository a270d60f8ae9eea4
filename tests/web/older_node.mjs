// What browsers have had for long, and Node only from 20 on. Node 18 is Debian's.

import { webcrypto } from "node:crypto";

globalThis.crypto ??= webcrypto;
globalThis.CustomEvent ??= class CustomEvent extends Event {
  constructor(type, { detail = null } = {}) {
    super(type);
    this.detail = detail;
  }
};
