// A group's configuration as a form; it is saved only over the revision that it began with.
import {html, useState} from '../vendor/preact.js';
import {api} from './data.js';
import {joined, ShapeForm, useFields} from './form.js';

// The configuration as the form has it, and back.
const LANGUAGE = {init_language: {enum: ['shell', 'python'], description: 'where its #! does not say it'}};
const shown = ({init, periodic, ...rest}) => ({...rest, ...(init === undefined ? {} : typeof init === 'string' ? {init} : {init: init.text, init_language: init.language})});
const given = ({init, init_language: language, ...rest}) => ({...rest, ...(init === undefined ? {} : {init: language ? {text: init, language} : init})});

const PERIODIC = {required: ['name', 'every', 'text'], properties: {
	name: {type: 'string'}, every: {format: 'line', description: '10s or more'}, timeout: {format: 'line', description: 'what one run may take, by default 5m'},
	language: LANGUAGE.init_language, text: {format: 'text', description: 'a shell script, or what its #! names'}}};

function Periodic({id, value, tell, out}) {
	const fields = useFields(PERIODIC, value, `periodic-${id}`);
	tell(fields);
	return html`<div class="periodic"><div class="grid">${fields.view(fields.names.filter((name) => name !== 'text'))}</div>${fields.view(['text'])}<button type="button" onClick=${out}>Take it out</button></div>`;
}

export function GroupForm({name, group, saved, stale}) {
	const config = group?.config ?? {};
	const [periodic, set] = useState(() => new Map((config.periodic ?? []).entries())); // by a number, as they came
	const read = {};
	const submit = async (json) => {
		const body = given(JSON.parse(json));
		const all = [...periodic.keys()].map((id) => {
			const [pairs, found] = read[id].compose();
			if (read[id].point(found)) throw new Error('Something is wrong with a periodic script');
			return JSON.parse(`{${joined(pairs)}}`);
		});
		if (all.length) body.periodic = all;
		try {
			saved(await api(`/groups/${encodeURIComponent(name)}`, {method: 'PUT', query: {revision: group?.revision ?? '0'}, body}));
		} catch (error) {
			if (error.status === 409) stale();
			throw error;
		}
	};
	const change = (id, value) => set((old) => { const made = new Map(old); value ? made.set(id, value) : made.delete(id); return made; });
	return html`<${ShapeForm} prefix="group" look="wide" masks of="GroupFields" more=${LANGUAGE} less=${['periodic']} value=${shown(config)} submit=${submit} label="Save">
		<fieldset class="field"><legend><code>periodic</code> <span class="muted">scripts that run again and again beside the workers</span></legend>
			${[...periodic].map(([id, value]) => html`<${Periodic} key=${id} id=${id} value=${value} tell=${(fields) => { read[id] = fields; }} out=${() => change(id)} />`)}
			<div><button type="button" onClick=${() => change(Math.max(-1, ...periodic.keys()) + 1, {})}>Another script</button></div></fieldset><//>`;
}
