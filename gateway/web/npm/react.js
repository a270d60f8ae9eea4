// React for an import map: its packages are no modules, so fetch.py bundles what the example names into one.

export { createElement, useEffect, useReducer, useState } from "react";
export { createRoot } from "react-dom/client";
