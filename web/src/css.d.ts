// The bundler takes style sheets out of the imports and into app.css.
declare module "*.css";
