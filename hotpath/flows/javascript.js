// What every context begins with. Takes away what would outlive an evaluation or run outside its limits, freezes
// the rest, and gives Python four functions, by number: compile, call, settle, failure.
// Python puts so many empty lines before this that its line numbers cannot be those of an expression.
(function () {
  "use strict";
  const { apply, ownKeys, getPrototypeOf, getOwnPropertyDescriptor, defineProperty, deleteProperty } = Reflect;
  const { freeze } = Object;
  const { isArray } = Array;
  const { parse, stringify } = JSON;
  const { then } = Promise.prototype;
  const AsyncFunction = (async () => {}).constructor;
  const settled = Promise.resolve.bind(Promise);

  const LONGEST = 2 ** 22; // elements; an array that holds as many does not fit into the memory
  const LARGEST = 16 * 1024 * 1024; // characters of a result's JSON

  // ------------------------------------------------------------------------------------------- taken away
  // jobs that throw are shown without a time limit; weak references and the stack's settings keep state
  for (const name of ["queueMicrotask", "FinalizationRegistry", "WeakRef", "SharedArrayBuffer", "Atomics"]) {
    deleteProperty(globalThis, name);
  }
  deleteProperty(Error, "prepareStackTrace");
  deleteProperty(Error, "stackTraceLimit");

  // These loop over the length, not over what is there, and are not interrupted while they do.
  const checkLength = (length) => {
    if (length > LONGEST) throw new RangeError(`an array of ${length} elements is too long`);
  };
  const check = (value) => {
    if (isArray(value)) checkLength(value.length);
  };
  const guard = (holder, name) => {
    const native = holder[name];
    const guarded = {
      [name](...args) {
        if (typeof this === "object" && this !== null) checkLength(this.length); // or what is like an array
        for (let at = 0; at < args.length; at++) check(args[at]);
        return apply(native, this, args);
      },
    }[name];
    defineProperty(guarded, "length", { value: native.length, configurable: true });
    defineProperty(holder, name, { value: guarded, writable: true, configurable: true });
  };
  for (const name of [
    "concat", "copyWithin", "flat", "flatMap", "join", "reverse", "shift", "slice", "sort", "splice",
    "toLocaleString", "unshift",
  ]) {
    guard(Array.prototype, name);
  }
  for (const name of ["freeze", "isFrozen", "isSealed", "seal"]) guard(Object, name);
  guard(JSON, "stringify");

  // JSON leaves out functions without a word
  defineProperty(Function.prototype, "toJSON", {
    value: function toJSON() {
      throw new TypeError(`the value holds a function, \`${this.name}\`, which has no JSON form`);
    },
  });

  // --------------------------------------------------------------------------------------------- frozen
  // What a frozen prototype has, objects below it could not be given by assignment; as accessors they can.
  const assignable = (holder) => {
    for (const key of ownKeys(holder)) {
      const { value, writable, configurable, enumerable } = getOwnPropertyDescriptor(holder, key);
      if (!writable || !configurable) continue;
      defineProperty(holder, key, {
        enumerable,
        configurable,
        get() {
          return value;
        },
        set(given) {
          if (this === holder) throw new TypeError(`'${String(key)}' is read-only`);
          defineProperty(this, key, { value: given, writable: true, enumerable: true, configurable: true });
        },
      });
    }
  };
  assignable(Object.prototype);
  for (const kind of [Error, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError]) {
    assignable(kind.prototype);
  }
  assignable(AggregateError.prototype);

  const waiting = [
    globalThis, AsyncFunction, function* () {}, async function* () {}, (function* () {})(), [].values(),
    new Map().entries(), new Set().values(), ""[Symbol.iterator](), "".matchAll(/x/g), Iterator.from({ next() {} }),
    [].values().map((x) => x), (async function* () {})(), Object.getOwnPropertyDescriptor(
      (function () { return arguments; })(), "callee").get,
  ];
  if (Iterator.concat) waiting.push(Iterator.concat([]));
  const seen = new Set();
  while (waiting.length) {
    const value = waiting.pop();
    if ((typeof value !== "object" && typeof value !== "function") || value === null || seen.has(value)) continue;
    seen.add(value);
    waiting.push(getPrototypeOf(value));
    for (const key of ownKeys(value)) {
      const found = getOwnPropertyDescriptor(value, key);
      waiting.push(found.value, found.get, found.set);
    }
  }
  for (const value of seen) freeze(value);

  // ------------------------------------------------------------------------------------------- for Python
  const UNDEFINED = 0, PENDING = 1, FAILED = 2, OUT_OF_MEMORY = 3, OUT_OF_STACK = 4;
  const table = []; // compiled expressions by slot: the function, lines before its text, lines of it
  let failure = "";
  let outcome = null; // of the promise that is waited for: [whether it is kept, value]

  const describe = (error, before, lines) => {
    let text, line = "";
    try {
      if (error instanceof Error) {
        text = `${error.name}: ${error.message}`;
        // the first place that is in the expression's text: the one below the numbers of this file
        for (const [, at] of `${error.stack}`.matchAll(/<input>:(\d+)/g)) {
          if (+at > before && +at < 100000) {
            line = ` (line ${Math.min(+at - before, lines)})`;
            break;
          }
        }
      } else if (typeof error === "object") {
        text = `${stringify(error)} was thrown`;
      } else {
        text = `${String(error)} was thrown`;
      }
    } catch {
      text = "something was thrown that cannot be shown";
    }
    // what C and UTF-8 cannot hold is not handed over
    return text.slice(0, 1000).toWellFormed().replaceAll("\0", "\\0") + line;
  };
  const fail = (error, before, lines) => {
    if (error === null || (error instanceof InternalError && error.message === "out of memory")) {
      return OUT_OF_MEMORY;
    }
    if (error instanceof RangeError && error.message === "Maximum call stack size exceeded") return OUT_OF_STACK;
    failure = describe(error, before, lines);
    return FAILED;
  };
  const say = (text) => {
    failure = text;
    return FAILED;
  };
  const give = (value) => {
    switch (typeof value) {
      case "undefined":
        return UNDEFINED;
      case "function":
      case "symbol":
      case "bigint":
        return say(`the value is a ${typeof value}, which has no JSON form`);
    }
    check(value);
    const text = stringify(value);
    if (text === undefined) return UNDEFINED;
    return text.length > LARGEST ? say(`the value is larger than ${LARGEST} bytes of JSON`) : text;
  };

  const STRICT = '"use strict"; ';
  // Line numbers: `new Function` puts two lines before the body.
  const make = (Kind, names, body) => new Kind(names, STRICT + body);
  const parses = (names, body) => {
    try {
      make(Function, names, body);
      return true;
    } catch (error) {
      if (error instanceof SyntaxError) return false;
      throw error;
    }
  };

  const compile = (slot, text, names) => {
    const bare = text.replace(/[;\s]+$/, "");
    const lines = bare.split("\n").length;
    let asExpression, asStatements;
    for (const Kind of [Function, AsyncFunction]) {
      try {
        const made = make(Kind, names, `return (${bare}\n);`);
        make(Kind, names, `return [${bare}\n];`); // refuses `a) + (b`, which closes what it has not opened
        table[slot] = { made, before: 2, lines };
        return UNDEFINED;
      } catch (error) {
        if (!(error instanceof SyntaxError)) return fail(error, 2, lines);
        asExpression ??= error;
      }
      try {
        const made = make(Kind, names, `${text}\n`);
        if (/\breturn\b/.test(text) && !parses(names, `class A { static { ${text}\n} }`)) {
          table[slot] = { made, before: 2, lines }; // with a `return` of its own
        } else if (Kind === Function) {
          // its value is that of its last statement, as `eval` has it
          const evaluated = make(Function, names, `return eval(${stringify(text)})`);
          table[slot] = { made: evaluated, before: 0, lines };
        } else {
          return say("an expression of several statements with `await` needs a `return`");
        }
        return UNDEFINED;
      } catch (error) {
        if (!(error instanceof SyntaxError)) return fail(error, 2, lines);
        asStatements ??= error;
      }
    }
    return fail(/[;\n]|\breturn\b/.test(bare) ? asStatements : asExpression, 2, lines);
  };

  const call = (slot, values) => {
    const { made, before, lines } = table[slot];
    try {
      const value = apply(made, undefined, parse(values));
      if (typeof value !== "object" || value === null || typeof value.then !== "function") return give(value);
      outcome = null;
      apply(then, settled(value), [
        (kept) => { outcome = [true, kept]; },
        (broken) => { outcome = [false, broken]; },
      ]);
      return PENDING;
    } catch (error) {
      return fail(error, before, lines);
    }
  };

  const settle = (slot) => {
    const { before, lines } = table[slot];
    if (outcome === null) return say("the value is a promise that nothing keeps: there is no input or output here");
    const [kept, value] = outcome;
    outcome = null;
    try {
      return kept ? give(value) : fail(value, before, lines);
    } catch (error) {
      return fail(error, before, lines);
    }
  };

  const functions = [compile, call, settle, () => failure];
  return (index) => functions[index];
})()
