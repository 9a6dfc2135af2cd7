// Scripts and flows: what there is, and a form to run each.
import {html, useState} from '../vendor/preact.js';
import {api, useData} from './data.js';
import {plural, visible} from './format.js';
import {address, go, inPath} from './router.js';
import {JobTable} from './jobs.js';
import {RunForm} from './form.js';
import {Copy, Empty, Facts, Head, Panel, Shown, Time} from './parts.js';
import {FlowGraph, useFlow} from './graph.js';

const fits = (each, words) => words.toLowerCase().split(/\s+/).every((word) => `${each.script} ${each.summary} ${each.tag}`.toLowerCase().includes(word));

function Listing({title, kind, empty}) {
	const [words, setWords] = useState('');
	const [steps, setSteps] = useState(false);
	const it = useData((signal) => api('/scripts', {signal}), [kind], {every: 15_000});
	return html`<div class="head"><h1>${title}</h1><form class="filters" role="search" onSubmit=${(event) => event.preventDefault()}><label><span>Find</span>
			<input type="search" data-search placeholder="name, summary or tag" value=${words} onInput=${(event) => setWords(event.target.value)} /></label>
			${!kind && html`<label class="check"><input type="checkbox" checked=${steps} onChange=${() => setSteps(!steps)} /><span>scripts within flows too</span></label>`}</form></div>
		<${Shown} it=${it} what=${`Reading ${title.toLowerCase()}`}>${({scripts}) => {
			const flows = scripts.filter((each) => each.kind === 'flow').map((each) => `${each.script}/`);
			const all = scripts.filter((each) => (kind ? each.kind === kind : steps || !flows.some((flow) => each.script.startsWith(flow))));
			const shown = all.filter((each) => fits(each, words));
			if (!all.length) return empty;
			if (!shown.length) return html`<${Empty} title=${`None of ${plural(all.length, title.toLowerCase().slice(0, -1))} fits “${visible(words)}”`} />`;
			return html`<div class="table"><table class="cards"><${Head} of=${['Name', 'Args', 'Tag', 'Kind', 'Registered']} />
				<tbody>${shown.map((each) => html`<tr key=${each.script} data-row><td class="wide"><a class="script" href=${`${each.kind === 'flow' ? '/flows' : '/scripts'}/${inPath(each.script)}`}>${visible(each.script)}</a>${each.summary && html`<div class="muted">${visible(each.summary)}</div>`}</td>
					<td data-l="takes"><code class="muted">${visible(Object.keys(each.schema.properties ?? {}).join(', ')) || '–'}</code></td><td data-l="tag">${each.tag === each.script ? html`<span class="muted">own</span>` : visible(each.tag)}</td>
					<td>${each.kind === 'flow' ? 'flow' : each.is_async ? 'async' : 'sync'}</td><td><${Time} at=${each.created_at} /></td></tr>`)}</tbody></table></div>`;
		}}<//>`;
}

export const Scripts = () => html`<${Listing} title="Scripts" empty=${html`<${Empty} title="No scripts yet">A script is a Python module with a <code>main</code>. <code>hotpath deploy</code> registers all below a directory.<//>`} />`;
export const Flows = () => html`<${Listing} title="Flows" kind="flow" empty=${html`<${Empty} title="No flows yet">A flow is a directory <code>NAME.flow</code>, or a script that calls <code>hotpath.step</code>. <code>hotpath deploy</code> registers all below a directory.<//>`} />`;

const SAID = {timeout: (v) => `${v} s`, retry: (v) => `${plural(v.attempts, 'attempt')}, ${v.delay} s apart (${v.backoff})`, priority: String, concurrency: String, tag: visible};

const Drawing = ({name}) => html`<${FlowGraph} name=${name} flow=${useFlow(name)} />`;

export function Script({of: [name], path}) {
	const flow = path.startsWith('/flows/');
	const it = useData((signal) => api(`/scripts/${inPath(name)}`, {signal}), [name]);
	const jobs = useData((signal) => api('/jobs', {signal, query: {script: name, limit: 15}}), [name], {every: 2000});
	if (it.error?.status === 404) return html`<${Empty} title=${`There is no ${flow ? 'flow' : 'script'} ${visible(name)}`}>${visible(it.error.message)} <a href=${flow ? '/flows' : '/scripts'}>All ${flow ? 'flows' : 'scripts'}</a>.<//>`;
	return html`<${Shown} it=${it} what="Reading it">${({versions}) => {
		const now = versions.find((each) => each.current) ?? versions[0];
		const settings = Object.entries(now.settings).filter(([key, value]) => SAID[key] && value != null && !(key === 'priority' && !value)).map(([key, value]) => [key[0].toUpperCase() + key.slice(1), SAID[key](value)]);
		return html`<div class="head"><div><h1>${visible(now.script)} <span class="muted">${now.kind === 'flow' ? 'flow' : now.is_async ? 'async script' : 'script'}</span></h1>${now.summary && html`<p class="sub">${visible(now.summary)}</p>`}</div></div>
			${now.kind === 'flow' && html`<${Drawing} name=${now.script} />`}
			<div class="pair lopsided"><${Panel} title="Run it"><div class="inner"><${RunForm} key=${now.hash} script=${now.script} schema=${now.schema} label="Run" done=${(id) => go(`${now.kind === 'flow' ? '/runs' : '/jobs'}/${id}`)} /></div><//>
				<${Panel} title="Settings"><${Facts} of=${[['Tag', html`<a href=${address('/jobs', {tag: now.tag})}>${visible(now.tag)}</a>`], ...settings.filter(([key]) => key !== 'Tag')]} />
					<div class="table"><table><${Head} of=${['Version', 'Registered']} /><tbody>${versions.map((each) => html`<tr key=${each.hash}><td><${Copy} text=${each.hash} label=${`Copy the hash ${each.hash.slice(0, 12)}`}><code>${each.hash.slice(0, 12)}</code><//>${each.current && html` <span class="muted">current</span>`}</td><td><${Time} at=${each.created_at} /></td></tr>`)}</tbody></table></div><//></div>
			<${Panel} title=${now.kind === 'flow' ? 'Runs' : 'Jobs'} aside=${html`<a href=${address('/jobs', {script: now.script})}>All</a>`}><${Shown} it=${jobs} what="Looking for jobs">${(data) => (data.jobs.length ? html`<${JobTable} jobs=${data.jobs} />` : html`<${Empty} title="It has not been run yet">The form above runs it.<//>`)}<//><//>`;
	}}<//>`;
}
