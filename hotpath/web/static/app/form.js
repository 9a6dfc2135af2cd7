// Args as a form: a JSON Schema's properties as fields. What is typed goes into the JSON as it is, so that no
// number loses a digit; the server has the last word and names the field.
import {html, useState} from '../vendor/preact.js';
import {api, Problem} from './data.js';
import {visible} from './format.js';

const MASK = '••••••'; // what the server shows of a secret

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
		nullable = rest.length < either.length;
		if (rest.length === 1) it = {...it, ...rest[0]};
		else return {kind: 'json', nullable, it};
	}
	if (Array.isArray(it.type)) {
		nullable = it.type.includes('null');
		const rest = it.type.filter((each) => each !== 'null');
		it = {...it, type: rest.length === 1 ? rest[0] : undefined};
	}
	if (it.writeOnly || it.format === 'password') return {kind: 'secret', nullable, it};
	if (it.enum) return {kind: 'choice', nullable, it, options: it.enum};
	if (it.type === 'boolean') return {kind: 'choice', nullable, it, options: [true, false]};
	if (it.type === 'integer' || it.type === 'number' || it.type === 'string') return {kind: it.type, nullable, it};
	return {kind: 'json', nullable, it};
}

const HINTS = {'date-time': 'a time, such as 2026-03-01T12:00:00Z', date: 'a day, such as 2026-03-01', uuid: 'a UUID', duration: 'a duration, such as PT1H30M', byte: 'base64', decimal: 'a decimal number', time: 'a time of day'};
const hint = ({kind, it, nullable}) => [
	kind === 'json' ? (it.type ? `JSON: ${it.type}` : 'JSON') : kind === 'secret' ? 'secret' : kind === 'choice' ? '' : HINTS[it.format] ?? {integer: 'whole number', number: 'number', string: 'text'}[kind],
	it.minimum != null && `≥ ${it.minimum}`, it.maximum != null && `≤ ${it.maximum}`, it.pattern && `fits ${it.pattern}`, it.maxLength != null && `at most ${it.maxLength} characters`, nullable && 'or null',
].filter(Boolean).join(', ');

const initial = (form, value) => (value === undefined || (form.kind === 'secret') ? '' : form.kind === 'string' && typeof value === 'string' ? value : JSON.stringify(value, null, form.kind === 'json' ? 2 : 0));

// The JSON of one field; undefined: left out. Throws an Error that says what is wrong.
function read(form, text, required) {
	const {kind, nullable} = form;
	if (text === '') {
		if (!required) return undefined;
		if (nullable) return 'null';
		throw new Error(kind === 'string' ? 'is needed (an empty text can be said as JSON)' : 'is needed');
	}
	if (nullable && text === 'null') return 'null';
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
	const common = {id, name, 'aria-invalid': Boolean(fault), 'aria-describedby': bad, onInput: (event) => set(event.target.value)};
	const standard = it.default === undefined ? (required ? '' : 'left out') : `default: ${JSON.stringify(it.default)}`;
	let control;
	if (kind === 'choice') {
		control = html`<select ...${common} value=${text}>${(!required || text === '') && html`<option value="">${required ? 'choose' : standard}</option>`}
			${[...options, ...(form.nullable ? [null] : [])].map((each) => html`<option key=${JSON.stringify(each)} value=${JSON.stringify(each)}>${visible(typeof each === 'string' ? each : JSON.stringify(each))}</option>`)}</select>`;
	} else if (kind === 'json' || text.includes('\n')) {
		control = html`<textarea ...${common} rows=${Math.min(Math.max(text.split('\n').length, 2), 12)} spellcheck=${false} placeholder=${standard} value=${text}></textarea>`;
	} else {
		control = html`<input ...${common} type=${kind === 'secret' ? 'password' : 'text'} inputmode=${kind === 'integer' ? 'numeric' : kind === 'number' ? 'decimal' : undefined}
			autocomplete=${kind === 'secret' ? 'new-password' : 'off'} spellcheck=${false} placeholder=${standard} value=${text} />`;
	}
	return html`<div class="field"><label for=${id}><code>${visible(name)}</code>${required && html`<b title="needed" aria-label="needed">*</b>`} <span class="muted">${hint(form)}</span></label>${control}
		${(it.description || fault) && html`<small id=${bad} class=${fault ? 'bad' : 'muted'}>${visible(fault ?? it.description)}</small>`}</div>`;
}

// A form for `schema`. `submit(json)` gets the text of one JSON object and returns a promise.
export function SchemaForm({schema, value, submit, label, children, close, quiet, prefix = 'arg'}) {
	const root = schema ?? {};
	const needed = new Set(root.required ?? []);
	// As they were written, where the schema says it (the database keeps no order of keys), the needed ones first.
	const names = [...new Set([...(root.order ?? []), ...needed, ...Object.keys(root.properties ?? {})])].filter((name) => root.properties?.[name]);
	const forms = Object.fromEntries(names.map((name) => [name, shape(root.properties[name], root)]));
	const [texts, setTexts] = useState(() => Object.fromEntries(names.map((name) => [name, initial(forms[name], value?.[name])])));
	const others = Object.fromEntries(Object.entries(value ?? {}).filter(([name]) => !forms[name]));
	const open = !quiet && root.additionalProperties !== false;
	const [raw, setRaw] = useState(null); // text, when JSON is edited as a whole
	const [more, setMore] = useState(Object.keys(others).length ? JSON.stringify(others, null, 2) : '');
	const [faults, setFaults] = useState({});
	const [busy, setBusy] = useState(false);

	const compose = () => {
		const found = {};
		const pairs = [];
		for (const name of names) {
			try {
				const json = read(forms[name], texts[name], needed.has(name));
				if (json !== undefined) pairs.push(`${JSON.stringify(name)}: ${json}`);
			} catch (error) {
				found[name] = error.message;
			}
		}
		if (open && more.trim()) {
			const inner = /^\{([\s\S]*)\}$/.exec(more.trim());
			try {
				JSON.parse(more);
				if (!inner) throw new Error('it is no object');
				if (inner[1].trim()) pairs.push(inner[1].trim());
			} catch (error) {
				found[''] = `More args: ${error.message}`;
			}
		}
		return [`{${pairs.join(', ')}}`, found];
	};
	const edit = () => {
		if (raw !== null) {
			try {
				const given = JSON.parse(raw);
				setTexts(Object.fromEntries(names.map((name) => [name, forms[name].kind === 'secret' ? given[name] ?? '' : initial(forms[name], given[name])])));
				const rest = Object.fromEntries(Object.entries(given).filter(([name]) => !forms[name]));
				setMore(Object.keys(rest).length ? JSON.stringify(rest, null, 2) : '');
			} catch (error) {
				setFaults({'': `This is not JSON: ${error.message}`});
				return;
			}
			setRaw(null);
		} else {
			const [json] = compose();
			try { setRaw(JSON.stringify(JSON.parse(json), null, 2)); } catch { setRaw(json); }
		}
		setFaults({});
	};
	const send = async (event) => {
		event.preventDefault();
		let json = raw;
		if (raw === null) {
			const [text, found] = compose();
			setFaults(found);
			const first = Object.keys(found)[0];
			if (first !== undefined) {
				document.getElementById(`${prefix}-${first}`)?.focus();
				return;
			}
			json = text;
		} else {
			try { JSON.parse(raw); } catch (error) {
				setFaults({'': `This is not JSON: ${error.message}`});
				return;
			}
		}
		if (json.includes(MASK)) {
			setFaults({'': 'A secret is masked in it: type it again'});
			return;
		}
		setBusy(true);
		setFaults({});
		try {
			await submit(json);
		} catch (error) {
			const field = error instanceof Problem && error.field?.replace(/^(args|payload)\./, '').split(/[.[]/)[0];
			setFaults(forms[field] && raw === null ? {[field]: error.message} : {'': error.message});
		}
		setBusy(false);
	};
	return html`<form class="schema" onSubmit=${send} autocomplete="off" novalidate>
		${raw === null ? html`${names.map((name) => html`<${Field} key=${name} id=${`${prefix}-${name}`} name=${name} form=${forms[name]} required=${needed.has(name)} text=${texts[name]} fault=${faults[name]}
				set=${(text) => setTexts((old) => ({...old, [name]: text}))} />`)}
			${!names.length && !open && !quiet && html`<p class="muted">It takes no args.</p>`}
			${open && html`<div class="field"><label for=${`${prefix}-more`}>${names.length ? 'More args' : 'Args'} <span class="muted">a JSON object</span></label><textarea id=${`${prefix}-more`} rows="3" spellcheck=${false} placeholder="{}" value=${more} onInput=${(event) => setMore(event.target.value)}></textarea></div>`}`
			: html`<div class="field"><label for=${`${prefix}-json`}>JSON</label><textarea id=${`${prefix}-json`} class="tallest" spellcheck=${false} rows=${Math.min(Math.max(raw.split('\n').length + 1, 6), 24)} value=${raw} onInput=${(event) => setRaw(event.target.value)}></textarea></div>`}
		${children}
		${faults[''] && html`<p class="bad" role="alert">${visible(faults[''])}</p>`}
		<div class="actions"><button type="submit" class="main" disabled=${busy} aria-busy=${busy}>${label}</button>
			${(names.length > 0 || raw !== null) && html`<button type="button" onClick=${edit}>${raw === null ? 'As JSON' : 'As a form'}</button>`}
			${close && html`<button type="button" onClick=${close}>Not now</button>`}</div></form>`;
}

const key = () => [...crypto.getRandomValues(new Uint8Array(16))].map((each) => each.toString(16).padStart(2, '0')).join('');

// The form that enqueues a job of `script`; `done(id)` when it is in.
export function RunForm({script, schema, value, tag, priority, done, label = 'Run', close}) {
	const [where, setWhere] = useState({tag: tag ?? '', priority: priority ? String(priority) : '', at: '', timeout: ''});
	const [idempotency, setKey] = useState(key);
	const field = (name, said, more) => html`<label><span>${said}</span><input name=${name} value=${where[name]} autocomplete="off" onInput=${(event) => setWhere((old) => ({...old, [name]: event.target.value}))} ...${more} /></label>`;
	const submit = async (json) => {
		const rest = {};
		if (where.tag) rest.tag = where.tag;
		for (const name of ['priority', 'timeout']) {
			if (!where[name]) continue;
			rest[name] = Number(where[name]);
			if (Number.isNaN(rest[name])) throw new Error(`The ${name} is not a number`);
		}
		if (where.at) rest.scheduled_for = new Date(where.at).toISOString();
		const text = `${JSON.stringify({script, ...rest}).slice(0, -1)}, "args": ${json}}`;
		try {
			const {id} = await api('/jobs', {method: 'POST', text, headers: {'idempotency-key': idempotency}});
			setKey(key());
			done(id);
		} catch (error) {
			if (error.status) setKey(key()); // refused: what is sent next is another request
			throw error;
		}
	};
	return html`<${SchemaForm} schema=${schema} value=${value} submit=${submit} label=${label} close=${close}>
		<details class="more"><summary>When and where</summary><div class="grid">
			${field('tag', 'Tag', {placeholder: 'the script’s own'})}${field('priority', 'Priority', {inputmode: 'numeric', placeholder: '0'})}
			${field('at', 'Not before (your time)', {type: 'datetime-local', step: 1})}${field('timeout', 'Time-out, seconds', {inputmode: 'decimal', placeholder: 'the script’s own'})}</div></details><//>`;
}
