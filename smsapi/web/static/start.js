"use strict";

SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  // The badge would send the address of this service to a validator on the internet.
  validatorUrl: null,
  // A request from here is a real one: with a live key, a real text. So it takes a click per operation,
  // and a key typed in is forgotten with the page.
  tryItOutEnabled: false,
  persistAuthorization: false,
  // Nobody may aim this page at another description by a link (?url=…).
  queryConfigEnabled: false,
  deepLinking: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
});
