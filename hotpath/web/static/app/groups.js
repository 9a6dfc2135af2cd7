// Groups of workers: who belongs to each, how many are wanted, who does not run the newest configuration and why.
import {html, useState} from '../vendor/preact.js';
import {api, useApi, useData, useMay} from './data.js';
import {NONE, number, plural, visible} from './format.js';
import {address, go, inPath} from './router.js';
import {Ask, tagged} from './form.js';
import {GroupForm} from './groupform.js';
import {JobTable} from './jobs.js';
import {Cards, Empty, Facts, Json, Panel, Shown, Sure, Time} from './parts.js';

const MOST = 50; // groups of which more is asked than the list says
const of = (name) => `/groups/${encodeURIComponent(name)}`;
const some = (names) => names.slice(0, 6).map(visible).join(', ') + (names.length > 6 ? ` and ${names.length - 6} more` : '');
const behind = (workers, revision) => workers.filter((each) => !each.is_current && revision != null);

async function readAll(signal) {
	const {groups} = await api('/groups', {signal});
	// What went between the two questions is only not told.
	const more = await Promise.all(groups.slice(0, MOST).filter((each) => each.group).map(async ({group, revision}) => [group, {
		one: revision == null ? null : await api(of(group), {signal}).catch(ignored), scaling: await api(`${of(group)}/scaling`, {signal}).catch(ignored)}]));
	return {groups, more: Object.fromEntries(more)};
}
const ignored = (error) => { if (error.name === 'AbortError' || error.status !== 404) throw error; return null; };

export function Groups() {
	const it = useData(readAll, [], {every: 10_000});
	const may = useMay();
	const [name, setName] = useState('');
	const make = (event) => {
		event.preventDefault();
		if (name.trim()) go(of(name.trim()));
	};
	return html`<div class="head"><h1>Groups</h1>${may('admin') && html`<form class="filters" onSubmit=${make}><label><span>New group</span><input name="group" placeholder="name" value=${name} autocomplete="off" onInput=${(event) => setName(event.target.value)} /></label><button class="main" disabled=${!name.trim()}>Configure …</button></form>`}</div>
		<${Shown} it=${it} what="Looking for groups">${({groups, more}) => (groups.length ? html`<${Cards} of=${['Group', 'Workers', 'Wanted', 'Configuration', 'Tags and scripts', '>Jobs in hand']}>${groups.map((each) => html`<${Row} key=${each.group} of=${each} more=${more[each.group]} />`)}<//>`
			: html`<${Empty} title="No groups yet">A group is what its workers have in common: tags, environment, an init script. ${may('admin') ? 'Name one above' : html`<code>hotpath group set NAME --tags 'etl-*'</code>`}, then start its workers with <code>hotpath worker --group NAME</code>.<//>`)}<//>`;
}

function Row({of: each, more}) {
	if (!each.group) return html`<tr class="quiet"><td>no group</td><td>${plural(each.workers, 'worker')}</td><td></td><td></td><td>${some(each.scripts)}</td><td class="right">${number(each.running)}</td></tr>`;
	const late = behind(more?.one?.workers ?? [], each.revision);
	const config = more?.one?.config;
	const troubles = [...new Set(late.map((one) => one.trouble).filter(Boolean))];
	const least = config?.alert_min_workers;
	const there = more?.scaling?.workers ?? each.workers - each.lost;
	return html`<tr data-row><td><a class="script" href=${`/groups/${inPath(each.group)}`}>${visible(each.group)}</a></td>
		<td>${number(there)}${least > there ? html` <b class="bad">fewer than ${least}</b>` : ''}${each.lost > 0 && html` <b class="bad">${each.lost} lost</b>`}</td>
		<td>${more?.scaling ? html`${number(more.scaling.wanted)} <span class="muted" title=${more.scaling.why.join('\n')}>${more.scaling.is_set ? `of ${more.scaling.scale.min_workers} to ${more.scaling.scale.max_workers}` : 'no scale set'}</span>` : NONE}</td>
		<td>${each.revision == null ? html`<span class="muted">not configured</span>` : html`revision ${each.revision}${late.length > 0 && html`<div class=${troubles.length ? 'bad' : 'muted'}>${plural(late.length, 'worker')} not on it${troubles.length ? `: ${visible(troubles[0])}` : ''}</div>`}`}</td>
		<td>${some([...(config?.tags?.map(tagged) ?? []), ...(config?.dedicated ?? [])]) || some(each.scripts) || html`<span class="muted">nothing</span>`}</td>
		<td class="right">${number(each.running)}</td></tr>`;
}

export function Group({of: [name]}) {
	const it = useApi(of(name), {every: 3000});
	const scaling = useApi(`${of(name)}/scaling`, {every: 5000});
	const may = useMay();
	const missing = it.error?.status === 404;
	const config = missing ? null : it.data;
	const saved = (made) => it.put(() => made);
	return html`<div class="head"><div><h1>${visible(name)} <span class="muted">group${config ? `, revision ${config.revision}` : ''}</span></h1>${config && html`<p class="sub">changed <${Time} at=${config.updated_at} />${config.updated_by ? ` by ${visible(config.updated_by)}` : ''}</p>`}</div>
			${config && may('admin') && html`<div class="actions"><${Remove} name=${name} workers=${config.workers.length} /></div>`}</div>
		${missing ? html`<div class="trouble warn" role="status"><strong>Not configured</strong><span>Its workers, if there are any, have what their commands say${may('admin') ? ', until it is saved below.' : '.'}</span></div>${may('admin') && html`<${Panel} title="Configuration"><div class="inner"><${GroupForm} key="new" name=${name} saved=${(made) => { saved(made); it.reload(); }} stale=${it.reload} /></div><//>`}`
			: html`<${Shown} it=${it} what="Looking at the group">${(data) => html`<${Whole} data=${data} scaling=${scaling} admin=${may('admin')} saved=${saved} reload=${it.reload} />`}<//>`}`;
}

function Remove({name, workers}) {
	const [force, setForce] = useState(false);
	const remove = async () => {
		await api(of(name), {method: 'DELETE', query: {force}});
		go('/groups');
	};
	return html`<${Sure} name=${name} act=${remove}>${workers > 0 && html`<label class="check"><input type="checkbox" checked=${force} onChange=${() => setForce(!force)} /> <span>though it has ${plural(workers, 'live worker')}</span></label>`}<//>`;
}

function Whole({data, scaling, admin, saved, reload}) {
	const {workers, remarks, config, name, revision} = data;
	const [base, setBase] = useState(data); // what is edited
	const late = behind(workers, revision);
	const [said, setSaid] = useState('');
	const [scale, setScale] = useState(false);
	const path = `${of(name)}/scaling`;
	const stay = (made) => {
		setSaid(made.revision === base.revision ? 'It was like that already' : `Saved as revision ${made.revision}; workers heed it within a second`);
		setBase(made);
		saved(made);
	};
	return html`${remarks.length > 0 && html`<${Panel} title="To remark" tone="waiting"><ul class="reasons">${remarks.map((each) => html`<li key=${each.text}>${visible(each.text)}</li>`)}</ul><//>`}
		<div class="pair lopsided"><${Panel} title="Workers" aside=${html`<span class=${late.length ? 'bad' : 'muted'}>${plural(workers.length, 'worker')}${late.length ? `, ${late.length} not on revision ${revision}` : ''}</span>`}>${workers.length ? html`<${Cards} of=${['Worker', 'For', 'Revision']}>${workers.map((each) => html`<tr key=${each.name} data-row><td><a class="script" href=${address('/workers', {find: each.name})}>${visible(each.name)}</a><div class="muted">${visible(each.host)}, pid ${each.pid}</div></td>
				<td>${each.script ? visible(each.script) : 'any script'}</td><td>${each.revision ?? html`<span class="muted">none</span>`}${!each.is_current && html`<div class=${each.trouble ? 'bad' : 'muted'}>${each.trouble ? visible(each.trouble) : 'not the newest yet'}</div>`}</td></tr>`)}<//>`
				: html`<${Empty} title="Nobody is there">Start a worker of it: <code>hotpath worker --group ${visible(name)}</code><//>`}<//>
			<${Panel} title="How many are needed" aside=${admin && html`<button disabled=${!scaling.data} onClick=${() => setScale(true)}>Scale …</button>`}><${Shown} it=${scaling} what="Counting">${(found) => html`<${Facts} of=${[['Wanted', `${number(found.wanted)}, and there are ${number(found.workers)}`], ['Bounds', `${found.scale.min_workers} to ${found.scale.max_workers}${found.is_set ? '' : ' (by default)'}`], ['Waiting', `${number(found.load.waiting)}${found.more_waiting ? '+' : ''}`]]} />
				<ul class="reasons">${found.why.map((each) => html`<li key=${each}>${visible(each)}</li>`)}</ul>`}<//><//></div>
		${scale && html`<${Ask} title=${`How many workers ${visible(name)} may have`} note="Whoever starts its workers (hotpath autoscale, KEDA) heeds it at once." prefix="scale" of="SaidScale" value=${scaling.data.said ?? {}} send=${(body) => api(path, {method: 'PUT', body})}
			undo=${scaling.data.is_set && ['Have the defaults again', () => api(path, {method: 'DELETE'})]} done=${(found) => scaling.put(() => found)} close=${() => setScale(false)} />`}
		<${Panel} title="Configuration" aside=${html`<span role="status">${said}</span>`}>${admin ? html`<div class="inner">${base.revision !== revision && html`<div class="trouble warn" role="status"><strong>Changed meanwhile</strong><span>${visible(data.updated_by ?? 'Somebody')} made revision ${revision}; what is below began as ${base.revision} and cannot be saved over it.</span><button onClick=${() => setBase(data)}>Show the newest</button></div>`}
				<${GroupForm} key=${base.revision} name=${name} group=${base} saved=${stay} stale=${reload} /></div>` : html`<${Json} value=${config} label="Configuration" /><p class="muted pad note">Changing it needs the scope <code>admin</code>.</p>`}<//>
		${(config.init || config.periodic?.length > 0) && html`<${Runs} name=${name} config=${config} hosts=${[...new Set(workers.map((each) => each.host))]} />`}`;
}

// Each run of an init or a periodic script is a job, named after the host and the group.
function Runs({name, config, hosts}) {
	const names = hosts.slice(0, 5).flatMap((host) => [...(config.init ? [`init/${host}-${name}`] : []), ...(config.periodic ?? []).map((each) => `periodic/${host}-${name}/${each.name}`)]);
	const it = useData(async (signal) => {
		const found = await Promise.all(names.slice(0, 20).map((script) => api('/jobs', {signal, query: {script, limit: 3}}).catch(ignored)));
		return found.flatMap((each) => each?.jobs ?? []).sort((a, b) => (a.id < b.id ? 1 : -1));
	}, [names.join()], {every: 5000});
	return html`<${Panel} title="Init and periodic scripts" aside=${html`<span class="muted">${plural((config.init ? 1 : 0) + (config.periodic?.length ?? 0), 'script')} on ${plural(hosts.length, 'host')}</span>`}><${Shown} it=${it} what="Looking for runs">${(jobs) => (jobs.length ? html`<${JobTable} jobs=${jobs} />` : html`<${Empty} title="None has run yet" />`)}<//><//>`;
}

