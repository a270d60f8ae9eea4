// How the pages' scripts are checked: `npx eslint --config npm/eslint.config.js .` in gateway/web.

import js from "@eslint/js";
import globals from "globals";

export default [
  { ignores: ["npm/node_modules/", "vendor/", "bundle/"] },
  js.configs.recommended,
  {
    languageOptions: { ecmaVersion: 2024, globals: globals.browser },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      eqeqeq: ["error", "always", { null: "ignore" }],
      "no-eval": "error",
      "no-implied-eval": "error",
      "no-shadow": "error",
      "no-unused-private-class-members": "error",
      "no-var": "error",
      "object-shorthand": "error",
      "prefer-const": "error",
      // Text of users and agents goes in as text nodes only.
      "no-restricted-properties": [
        "error",
        ...["innerHTML", "outerHTML", "insertAdjacentHTML", "setHTMLUnsafe"].map((property) => ({
          property,
          message: "Text goes in as text nodes.",
        })),
        { object: "document", property: "write", message: "Text goes in as text nodes." },
      ],
    },
  },
];
