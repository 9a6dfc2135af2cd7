// Args as a form: a JSON Schema's properties as fields. What is typed goes into the JSON as it is, so that no
// number loses a digit; the server has the last word and names the field.
import {html, useState} from '../vendor/preact.js';
import {api, SHAPES, useData} from './data.js';
import {every, seconds, visible} from './format.js';
import {Act, Dialog, Shown} from './parts.js';

const MASK = '••••••'; // what the server shows of a secret

// Values that are written otherwise than as JSON; those with a hint on several lines.
export const tagged = (each) => (typeof each === 'string' ? each : `${each.tag}${each.priority ? `:${each.priority}` : ''}`);
const SIZES = [['T', 2 ** 40], ['G', 2 ** 30], ['M', 2 ** 20], ['', 1]];
const size = (bytes) => { const [unit, each] = SIZES.find(([, one]) => bytes % one === 0); return bytes / each + unit; };
const FORMATS = {
	line: {write: String, read: String},
	size: {write: (value) => (typeof value === 'string' ? value : size(value)), read: String},
	local: {type: 'datetime-local', write: String, read: (text) => new Date(text).toISOString()},
	span: {write: every, read: seconds},
	rate: {
		write: ([jobs, per]) => `${jobs}/${per}s`,
		read: (text) => {
			const [, jobs, per] = /^\s*(\d+)\s*\/(.+)$/.exec(text) ?? [];
			if (!jobs) throw new Error('is jobs in a time, such as 10/60s or 500/1h');
			return [Number(jobs), seconds(per)];
		},
	},
	lines: {hint: 'one a line', write: (value) => value.map(tagged).join('\n'), read: (text) => text.split('\n').map((each) => each.trim()).filter(Boolean)},
	pairs: {
		hint: 'NAME=value, one a line',
		write: (value) => Object.entries(value).map(([name, each]) => `${name}=${each}`).join('\n'),
		read: (text) => Object.fromEntries(text.split('\n').filter((each) => each.trim()).map((each) => {
			const at = each.indexOf('=');
			if (at < 1) throw new Error(`has a line without NAME=: ${each.slice(0, 40)}`);
			return [each.slice(0, at).trim(), each.slice(at + 1)];
		})),
	},
	text: {hint: '', write: String, read: String},
};

const resolved = (schema, root) => {
	let it = schema ?? {};
	for (let k = 0; k < 20 && typeof it.$ref === 'string'; k += 1) it = {...root.$defs?.[it.$ref.split('/').pop()], ...it, $ref: undefined};
	return it;
};

// What a property is to a form: {kind, nullable, options, hint}.
function shape(schema, root) {
	let it = resolved(schema, root);
	let nullable = false;
	const either = it.anyOf ?? it.oneOf;
	if (either) {
		const rest = either.map((each) => resolved(each, root)).filter((each) => each.type !== 'null');
		nullable = !root.api && rest.length < either.length;
		if (rest.length === 1) it = {...rest[0], ...it};
		else if (!FORMATS[it.format]) return {kind: 'json', nullable, it};
	}
	if (Array.isArray(it.type)) {
		nullable = it.type.includes('null');
		const rest = it.type.filter((each) => each !== 'null');
		it = {...it, type: rest.length === 1 ? rest[0] : undefined};
	}
	if (FORMATS[it.format]) return {kind: it.format, nullable, it};
	if (it.writeOnly || it.format === 'password') return {kind: 'secret', nullable, it};
	if (it.enum) return {kind: 'choice', nullable, it, options: it.enum};
	if (it.type === 'boolean') return {kind: 'choice', nullable, it, options: [true, false]};
	if (it.type === 'integer' || it.type === 'number' || it.type === 'string') return {kind: it.type, nullable, it};
	return {kind: 'json', nullable, it};
}

const HINTS = {'date-time': 'a time, such as 2026-03-01T12:00:00Z', date: 'a day, such as 2026-03-01', uuid: 'a UUID', duration: 'a duration, such as PT1H30M', byte: 'base64', decimal: 'a decimal number', time: 'a time of day'};
const hint = ({kind, it, nullable}) => [
	kind === 'json' ? (it.type ? `JSON: ${it.type}` : 'JSON') : kind === 'secret' ? 'secret' : kind === 'choice' ? '' : FORMATS[kind] ? FORMATS[kind].hint : HINTS[it.format] ?? {integer: 'whole number', number: 'number', string: 'text'}[kind],
	it.minimum != null && `≥ ${it.minimum}`, it.maximum != null && `≤ ${it.maximum}`, it.pattern && `fits ${it.pattern}`, it.maxLength != null && `at most ${it.maxLength} characters`, nullable && 'or null',
].filter(Boolean).join(', ');

const initial = (form, value) => (value === undefined || (form.kind !== 'json' && !form.nullable && value === null) || form.kind === 'secret' ? '' : FORMATS[form.kind] ? FORMATS[form.kind].write(value) : form.kind === 'string' && typeof value === 'string' ? value : JSON.stringify(value, null, form.kind === 'json' ? 2 : 0));

// The JSON of one field; undefined: left out. Throws an Error that says what is wrong.
function read(form, text, required) {
	const {kind, nullable} = form;
	if (text === '') {
		if (!required) return undefined;
		if (nullable) return 'null';
		throw new Error(kind === 'string' ? 'is needed (an empty text can be said as JSON)' : 'is needed');
	}
	if (nullable && text === 'null') return 'null';
	if (FORMATS[kind]) return JSON.stringify(FORMATS[kind].read(text));
	if (kind === 'integer' && !/^-?(0|[1-9]\d*)$/.test(text.trim())) throw new Error('is not a whole number');
	if (kind === 'string' || kind === 'secret') return JSON.stringify(text);
	try {
		const value = JSON.parse(text);
		if (kind === 'number' && typeof value !== 'number') throw new Error();
	} catch (error) {
		throw new Error(kind === 'number' ? 'is not a number' : `is not JSON: ${error.message}`);
	}
	return text.trim();
}

function Field({name, form, text, set, required, fault, id}) {
	const {it, kind, options} = form;
	const bad = fault ? `${id}-fault` : undefined;
	const common = {id, name, list: it.list, 'aria-invalid': Boolean(fault), 'aria-describedby': bad, onInput: (event) => set(event.target.value)};
	const standard = it.default == null ? (required ? '' : 'left out') : `default: ${JSON.stringify(it.default)}`;
	let control;
	if (kind === 'choice') {
		control = html`<select ...${common} value=${text}>${(!required || text === '') && html`<option value="">${required ? 'choose' : standard}</option>`}
			${[...options, ...(form.nullable ? [null] : [])].map((each) => html`<option key=${JSON.stringify(each)} value=${JSON.stringify(each)}>${visible(typeof each === 'string' ? each : JSON.stringify(each))}</option>`)}</select>`;
	} else if (kind === 'json' || FORMATS[kind]?.hint != null || text.includes('\n')) {
		control = html`<textarea ...${common} rows=${Math.min(Math.max(text.split('\n').length, 2), 12)} placeholder=${standard} value=${text}></textarea>`;
	} else {
		control = html`<input ...${common} type=${kind === 'secret' ? 'password' : FORMATS[kind]?.type ?? 'text'} inputmode=${kind === 'integer' ? 'numeric' : kind === 'number' ? 'decimal' : undefined}
			autocomplete=${kind === 'secret' ? 'new-password' : 'off'} placeholder=${standard} value=${text} />`;
	}
	return html`<div class="field"><label for=${id}><code>${visible(name)}</code>${required && html`<b title="needed" aria-label="needed">*</b>`} <span class="muted">${hint(form)}</span></label>${control}
		${(it.description || fault) && html`<small id=${bad} class=${fault ? 'bad' : 'muted'}>${visible(fault ?? it.description)}</small>`}</div>`;
}

// The fields of a schema, texts until they are read.
export function useFields(schema, value, prefix) {
	const root = schema ?? {};
	const needed = new Set(root.required ?? []);
	// As they were written, where the schema says it (the database keeps no order of keys), the needed ones first.
	const names = [...new Set([...(root.order ?? []), ...needed, ...Object.keys(root.properties ?? {})])].filter((name) => root.properties?.[name]);
	const forms = Object.fromEntries(names.map((name) => [name, shape(root.properties[name], root)]));
	const written = (given, secrets) => Object.fromEntries(names.map((name) => [name, secrets && forms[name].kind === 'secret' ? given[name] ?? '' : initial(forms[name], given?.[name])]));
	const [texts, setTexts] = useState(() => written(value));
	const [faults, setFaults] = useState({});
	// Says what is wrong, each at its field; whether anything is.
	const point = (found) => {
		const [first] = Object.keys(found);
		setFaults(found);
		document.getElementById(`${prefix}-${first}`)?.focus();
		return first !== undefined;
	};
	return {
		names, forms, texts, faults, point,
		fill: (given) => setTexts(written(given, true)),
		// [name, its JSON] of each that is said, and what is wrong by name.
		compose: () => {
			const found = {};
			const pairs = [];
			for (const name of names) {
				try {
					const json = read(forms[name], texts[name], needed.has(name));
					if (json !== undefined) pairs.push([name, json]);
				} catch (error) {
					found[name] = error.message;
				}
			}
			return [pairs, found];
		},
		// What the server refuses, if it is one of these; whether it is.
		refuse: (error) => {
			const field = error.field?.replace(/^(args|payload)\./, '').split(/[.[]/)[0];
			return Boolean(forms[field]) && point({[field]: error.message});
		},
		view: (which = names) => which.map((name) => html`<${Field} key=${name} id=${`${prefix}-${name}`} name=${name} form=${forms[name]} required=${needed.has(name)} text=${texts[name]} fault=${faults[name]}
			set=${(text) => setTexts((old) => ({...old, [name]: text}))} />`),
	};
}
export const joined = (pairs) => pairs.map(([name, json]) => `${JSON.stringify(name)}: ${json}`).join(', ');

// A form for `schema`. `submit(json)` gets the text of one JSON object and returns a promise.
export function SchemaForm({schema, value, submit, label, children, close, quiet, masks, look = '', prefix = 'arg'}) {
	const fields = useFields(schema, value, prefix);
	const {names, forms, faults, point} = fields;
	const others = (given) => Object.fromEntries(Object.entries(given ?? {}).filter(([name]) => !forms[name]));
	const rest = (given) => (Object.keys(others(given)).length ? JSON.stringify(others(given), null, 2) : '');
	const open = !quiet && schema?.additionalProperties !== false;
	const [raw, setRaw] = useState(null); // text, when JSON is edited as a whole
	const [more, setMore] = useState(rest(value));
	const [busy, setBusy] = useState(false);

	const compose = () => {
		const [pairs, found] = fields.compose();
		const parts = pairs.length ? [joined(pairs)] : [];
		if (open && more.trim()) {
			const inner = /^\{([\s\S]*)\}$/.exec(more.trim());
			try {
				JSON.parse(more);
				if (!inner) throw new Error('it is no object');
				if (inner[1].trim()) parts.push(inner[1].trim());
			} catch (error) {
				found[''] = `More args: ${error.message}`;
			}
		}
		return [`{${parts.join(', ')}}`, found];
	};
	const parsed = () => {
		try {
			return JSON.parse(raw);
		} catch (error) {
			point({'': `This is not JSON: ${error.message}`});
			return undefined;
		}
	};
	const edit = () => {
		if (raw !== null) {
			const given = parsed();
			if (given === undefined) return;
			fields.fill(given);
			setMore(rest(given));
			setRaw(null);
		} else {
			const [json] = compose();
			try { setRaw(JSON.stringify(JSON.parse(json), null, 2)); } catch { setRaw(json); }
		}
		point({});
	};
	const send = async (event) => {
		event.preventDefault();
		let json = raw;
		if (raw === null) {
			const [text, found] = compose();
			if (point(found)) return;
			json = text;
		} else if (parsed() === undefined) return;
		if (!masks && json.includes(MASK)) {
			point({'': 'A secret is masked in it: type it again'});
			return;
		}
		setBusy(true);
		point({});
		try {
			await submit(json);
		} catch (error) {
			if (raw !== null || !fields.refuse(error)) point({'': error.message});
		}
		setBusy(false);
	};
	return html`<form class=${`schema ${look}`} onSubmit=${send} autocomplete="off" novalidate>
		${raw === null ? html`${fields.view()}
			${!names.length && !open && !quiet && html`<p class="muted">It takes no args.</p>`}
			${open && html`<div class="field"><label for=${`${prefix}-more`}>${names.length ? 'More args' : 'Args'} <span class="muted">a JSON object</span></label><textarea id=${`${prefix}-more`} rows="3" placeholder="{}" value=${more} onInput=${(event) => setMore(event.target.value)}></textarea></div>`}`
			: html`<div class="field"><label for=${`${prefix}-json`}>JSON</label><textarea id=${`${prefix}-json`} class="tallest" rows=${Math.min(Math.max(raw.split('\n').length + 1, 6), 24)} value=${raw} onInput=${(event) => setRaw(event.target.value)}></textarea></div>`}
		${children}
		${faults[''] && html`<p class="bad" role="alert">${visible(faults[''])}</p>`}
		<div class="actions"><button type="submit" class="main" disabled=${busy} aria-busy=${busy}>${label}</button>
			${(names.length > 0 || raw !== null) && html`<button type="button" onClick=${edit}>${raw === null ? 'As JSON' : 'As a form'}</button>`}
			${close && html`<button type="button" onClick=${close}>Not now</button>`}</div></form>`;
}

// What the API takes, as it says itself: a form for the shape `of` has its fields, those of `more` besides, and not `less`.
let asked = null;
const shapes = async () => {
	try {
		return (await (asked ??= api(SHAPES))).components.schemas;
	} catch (error) {
		asked = null;
		throw error;
	}
};
const schemaOf = ($defs, of, more, less = []) => {
	const {properties, required = []} = $defs[of];
	const kept = ([name]) => !less.includes(name);
	return {properties: Object.fromEntries(Object.entries({...properties, ...more}).filter(kept)), required: [...Object.keys(more).filter((name) => more[name].needed), ...required].filter((name) => kept([name])), additionalProperties: false, $defs, api: true};
};
export const Shaped = ({of, more, less, children}) => html`<${Shown} it=${useData(shapes, [])} what="Reading what there is to say">${($defs) => children(schemaOf($defs, of, more ?? {}, less))}<//>`;
export const ShapeForm = ({of, more, less, ...form}) => html`<${Shaped} of=${of} more=${more} less=${less}>${(schema) => html`<${SchemaForm} schema=${schema} ...${form} />`}<//>`;

// A dialog with such a form: `send(values)` gives what `done` gets; what it refuses is said at the field.
// `undo`: the words and the way to have nothing said.
export function Ask({title, note, send, done, close, undo, label = 'Set it', ...form}) {
	const end = async (asked) => {
		const found = await asked;
		close();
		done(found);
	};
	const submit = (json) => end(send(JSON.parse(json)));
	return html`<${Dialog} title=${title} close=${close}>${note && html`<p class="muted">${note}</p>`}<${form.of ? ShapeForm : SchemaForm} ...${form} submit=${submit} label=${label} close=${close}>${undo && html`<p><${Act} tone="danger" act=${() => end(undo[1]())}>${undo[0]}<//></p>`}<//><//>`;
}

const key = () => [...crypto.getRandomValues(new Uint8Array(16))].map((each) => each.toString(16).padStart(2, '0')).join('');

const WHERE = {properties: {
	tag: {type: 'string', description: 'left out: the script’s own'}, priority: {type: 'integer', description: 'larger ones come first'},
	scheduled_for: {format: 'local', description: 'not before, in your time'}, timeout: {type: 'number', description: 'seconds that it may run'}}};

// The form that enqueues a job of `script`; `done(id)` when it is in.
export function RunForm({script, schema, value, tag, priority, done, label = 'Run', close}) {
	const where = useFields(WHERE, {...(tag && {tag}), ...(priority && {priority})}, 'where');
	const [idempotency, setKey] = useState(key);
	const submit = async (json) => {
		const [pairs, found] = where.compose();
		if (where.point(found)) return;
		try {
			const {id} = await api('/jobs', {method: 'POST', text: `{${joined([['script', JSON.stringify(script)], ...pairs, ['args', json]])}}`, headers: {'idempotency-key': idempotency}});
			setKey(key());
			done(id);
		} catch (error) {
			if (error.status) setKey(key()); // refused: what is sent next is another request
			if (!where.refuse(error)) throw error;
		}
	};
	return html`<${SchemaForm} schema=${schema} value=${value} submit=${submit} label=${label} close=${close}>
		<details class="more"><summary>When and where</summary><div class="grid">${where.view()}</div></details><//>`;
}
