// Scripts and flows: what there is, and a form to run each.
import {html, useState} from '../vendor/preact.js';
import {api, useApi, useMay} from './data.js';
import {NONE, number, plural, span, visible} from './format.js';
import {address, go, inPath} from './router.js';
import {JobTable} from './jobs.js';
import {Ask, RunForm} from './form.js';
import {Cards, Copy, Empty, Facts, Find, has, Panel, Script as Link, Shown, Sure, Time} from './parts.js';
import {FlowGraph, useFlow} from './graph.js';
import {Keep, keptSaid} from './retention.js';

function Listing({title, kind, empty}) {
	const [words, setWords] = useState('');
	const [steps, setSteps] = useState(false);
	const it = useApi('/scripts', {every: 15_000});
	return html`<div class="head"><h1>${title}</h1><${Find} words=${words} set=${setWords} among="name, summary or tag">${!kind && html`<label class="check"><input type="checkbox" checked=${steps} onChange=${() => setSteps(!steps)} /><span>scripts within flows too</span></label>`}<//></div>
		<${Shown} it=${it} what=${`Reading ${title.toLowerCase()}`}>${({scripts}) => {
			const flows = scripts.filter((each) => each.kind === 'flow').map((each) => `${each.script}/`);
			const all = scripts.filter((each) => (kind ? each.kind === kind : steps || !flows.some((flow) => each.script.startsWith(flow))));
			const shown = all.filter((each) => has(`${each.script} ${each.summary} ${each.tag}`, words));
			if (!all.length) return empty;
			if (!shown.length) return html`<${Empty} title=${`None of ${plural(all.length, title.toLowerCase().slice(0, -1))} fits “${visible(words)}”`} />`;
			return html`<${Cards} of=${['Name', 'Args', 'Tag', 'Kind', 'Registered']}>${shown.map((each) => html`<tr key=${each.script} data-row><td class="wide"><${Link} of=${each.script} kind=${each.kind} />${each.summary && html`<div class="muted">${visible(each.summary)}</div>`}</td>
					<td><code class="muted">${visible(Object.keys(each.schema.properties ?? {}).join(', ')) || '–'}</code></td><td>${each.tag === each.script ? html`<span class="muted">own</span>` : visible(each.tag)}</td>
					<td>${each.kind === 'flow' ? 'flow' : each.is_async ? 'async' : 'sync'}</td><td><${Time} at=${each.created_at} /></td></tr>`)}<//>`;
		}}<//>`;
}

export const Scripts = () => html`<${Listing} title="Scripts" empty=${html`<${Empty} title="No scripts yet">A script is a Python module with a <code>main</code>. <code>hotpath deploy</code> registers all below a directory.<//>`} />`;
export const Flows = () => html`<${Listing} title="Flows" kind="flow" empty=${html`<${Empty} title="No flows yet">A flow is a directory <code>NAME.flow</code>, or a script that calls <code>hotpath.step</code>. <code>hotpath deploy</code> registers all below a directory.<//>`} />`;

const SAID = {timeout: (v) => `${v} s`, retry: (v) => `${plural(v.attempts, 'attempt')}, ${v.delay} s apart (${v.backoff})`, priority: String, concurrency: String, unique: (v) => visible(v.key), debounce: (v) => `${v.seconds} s`, expires: (v) => span(v * 1000)};
const limitSaid = (it) => (it ? [it.concurrency && `${number(it.concurrency)} at a time`, it.rate && `${number(it.rate[0])} in ${span(it.rate[1] * 1000)}`].filter(Boolean).join(', ') + (it.key ? `, for each ${visible(it.key)}` : '') : 'none');

const Drawing = ({name}) => html`<${FlowGraph} name=${name} flow=${useFlow(name)} />`;

export function Script({of: [name], path}) {
	const flow = path.startsWith('/flows/');
	const it = useApi(`/scripts/${inPath(name)}`);
	const jobs = useApi('/jobs', {query: {script: name, limit: 15}, every: 2000});
	const limits = useApi('/limits', {every: 5000});
	const rules = useApi('/retention');
	const admin = useMay()('admin');
	const [asked, ask] = useState('');
	if (it.error?.status === 404) return html`<${Empty} title=${`There is no ${flow ? 'flow' : 'script'} ${visible(name)}`}>${visible(it.error.message)} <a href=${flow ? '/flows' : '/scripts'}>All ${flow ? 'flows' : 'scripts'}</a>.<//>`;
	return html`<${Shown} it=${it} what="Reading it">${({versions}) => {
		const now = versions.find((each) => each.current) ?? versions[0];
		const settings = Object.entries(now.settings).filter(([key, value]) => SAID[key] && value != null && !(key === 'priority' && !value)).map(([key, value]) => [key[0].toUpperCase() + key.slice(1), SAID[key](value)]);
		const limit = limits.data?.limits.find((each) => each.script === now.script);
		const rule = rules.data?.scripts.find((each) => each.script === now.script);
		const close = () => ask('');
		return html`<div class="head"><div><h1>${visible(now.script)} <span class="muted">${now.kind === 'flow' ? 'flow' : now.is_async ? 'async script' : 'script'}</span></h1>${now.summary && html`<p class="sub">${visible(now.summary)}</p>`}</div></div>
			${now.kind === 'flow' && html`<${Drawing} name=${now.script} />`}
			<div class="pair lopsided"><${Panel} title="Run it"><div class="inner"><${RunForm} key=${now.hash} script=${now.script} schema=${now.schema} label="Run" done=${(id) => go(`${now.kind === 'flow' ? '/runs' : '/jobs'}/${id}`)} /></div><//>
				<${Panel} title="Settings" aside=${admin && html`<button disabled=${!limits.data} onClick=${() => ask('limit')}>Limit …</button><button disabled=${!rule} onClick=${() => ask('keep')}>Keep …</button>`}><${Facts} of=${[['Tag', html`<a href=${address('/jobs', {tag: now.tag})}>${visible(now.tag)}</a>`], ...settings,
					['Limit', limits.data && html`${limitSaid(limit?.limit)}${limit?.is_set && html` <span class="muted">set by ${visible(limit.set_by)}, <${Time} at=${limit.set_at} /></span>`}`], ['Kept', rule && keptSaid(rule.kept)]]} /><//></div>
			${asked === 'limit' && html`<${Ask} title=${`Limit of ${visible(now.script)}`} note="Instead of what its version says, within a second; nothing said is no limit." prefix="limit" of="NewLimit" less=${['script']} value=${limit?.limit ?? {}}
				send=${(body) => api('/limits', {method: 'PUT', body: {script: now.script, ...body}})} undo=${limit?.is_set && ['Have what its version says', () => api('/limits', {method: 'DELETE', query: {script: now.script}})]} done=${limits.reload} close=${close} />`}
			${asked === 'keep' && html`<${Keep} rule=${rule} done=${rules.reload} close=${close} />`}
			<${Versions} name=${now.script} admin=${admin} changed=${it.reload} />
			<${Panel} title=${now.kind === 'flow' ? 'Runs' : 'Jobs'} aside=${html`<a href=${address('/jobs', {script: now.script})}>All</a>`}><${Shown} it=${jobs} what="Looking for jobs">${(data) => (data.jobs.length ? html`<${JobTable} jobs=${data.jobs} />` : html`<${Empty} title="It has not been run yet">The form above runs it.<//>`)}<//><//>`;
	}}<//>`;
}

// Which version runs, since when and by whose hand, and on which workers; back to another one.
function Versions({name, admin, changed}) {
	const it = useApi('/versions', {query: {script: name}, every: 3000});
	const back = async (to) => {
		await api('/versions/rollback', {method: 'POST', body: {script: name, to}});
		it.reload();
		changed();
	};
	const by = (who) => who && html`<div class="muted">by ${visible(who)}</div>`;
	return html`<${Panel} title="Versions"><${Shown} it=${it} what="Looking for versions">${({versions}) => html`<${Cards} of=${['Version', 'Registered', 'Current since', 'Workers', '>']}>${versions.map((each) => {
		const hash = each.hash.slice(0, 12);
		return html`<tr key=${hash} class=${each.current ? '' : 'quiet'}><td><${Copy} text=${each.hash} label=${`Copy the hash ${hash}`}><code>${hash}</code><//>${each.current && html` <b>current</b>`}</td>
			<td><${Time} at=${each.created_at} />${by(each.made_by)}</td><td><${Time} at=${each.chosen_at} />${each.rolled_back && ' by a roll back'}${by(each.chosen_by)}</td>
			<td>${each.workers.join(', ') || NONE}${each.refused_by.map((one) => html`<div class="bad">${visible(`${one.worker}: ${one.error}`)}</div>`)}</td>
			<td class="right">${admin && !each.current && each.stored && html`<${Sure} does="Roll back" name=${`to ${hash}`} act=${() => back(each.hash)} />`}</td></tr>`;
	})}<//>`}<//><//>`;
}
