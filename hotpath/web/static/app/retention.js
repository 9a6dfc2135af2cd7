// Retention: for how long what is kept, of all scripts and of each.
import {html, useState} from '../vendor/preact.js';
import {api, useApi, useMay} from './data.js';
import {bytes, visible} from './format.js';
import {Ask} from './form.js';
import {Cards, Script, Shown} from './parts.js';

const KINDS = ['jobs', 'results', 'args', 'logs'];
export const keptSaid = (kept) => KINDS.filter((each) => kept[each] !== 'forever').map((each) => `${each} ${kept[each]}`).join(', ') || 'for ever';

// The form for what the database says: of a script's `rule`, or of all.
export function Keep({rule: {script, database}, done, close}) {
	const said = Object.fromEntries(Object.entries(database ?? {}).filter(([, each]) => each != null));
	const send = async (body) => {
		const field = Object.keys(said).find((each) => body[each] == null);
		if (field) throw Object.assign(new Error('stays as it was said: say forever, or take back all'), {field});
		return api('/retention', {method: 'PUT', body: {...(script && {script}), ...body}});
	};
	return html`<${Ask} title=${`Retention of ${script ? visible(script) : 'all scripts'}`} note="From the end of the day (UTC) on which a job ended. What is gone is gone." prefix="keep" of="NewSpans" less=${['script', ...(script ? ['disk'] : [])]} value=${said}
		send=${send} undo=${Object.keys(said).length > 0 && ['Say nothing of it any more', () => api('/retention', {method: 'DELETE', query: {script}})]} done=${done} close=${close} />`;
}

export function Retention() {
	const it = useApi('/retention', {every: 10_000});
	const admin = useMay()('admin');
	const [rule, edit] = useState(null);
	const row = (name, kept, who, of) => html`<tr data-row><td>${name}</td>${KINDS.map((each) => html`<td>${kept[each]}</td>`)}<td>${who.filter(Boolean).join(' and ') || 'nobody'}</td>
		<td class="right">${admin && html`<button class="small" aria-label=${`Change ${of.script ?? 'all'}`} onClick=${() => edit(of)}>Change …</button>`}</td></tr>`;
	return html`<div class="head"><h1>Retention</h1></div>
		<${Shown} it=${it} what="Reading what is said">${({default: all, kept, scripts}) => html`<${Cards} of=${['Script', 'Jobs', 'Results', 'Args', 'Logs', 'Said by', '>']}>
			${row(html`<b>all others</b>`, kept, [KINDS.some((each) => all[each]) && 'the database'], {database: all})}
			${scripts.filter((each) => each.database || each.own).map((each) => row(html`<${Script} of=${each.script} />`, each.kept, [each.database && 'the database', each.own && 'itself'], each))}<//>
			<p class="muted">All tables together take at most ${all.disk == null ? 'what the disk has' : bytes(all.disk)}. A script’s own is changed on its page.</p>`}<//>
		${rule && html`<${Keep} rule=${rule} done=${it.reload} close=${() => edit(null)} />`}`;
}
