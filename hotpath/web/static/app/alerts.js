// Alerts: what is watched, where each stands, who hears of it; silenced, tested, made and changed.
import {html, useState} from '../vendor/preact.js';
import {api, useApi, useMay, useNow} from './data.js';
import {plural, span, visible} from './format.js';
import {Ask} from './form.js';
import {Act, Ago, Empty, Panel, Shown, State, Sure, Time} from './parts.js';

const NAME = {name: {type: 'string', needed: true}};
const TONES = {firing: 'failure', clearing: 'waiting', pending: 'waiting', fine: 'success'};

export function Alerts() {
	const it = useApi('/alerts', {every: 3000});
	const may = useMay();
	const [edited, edit] = useState(null);
	const [notes, setNotes] = useState([]);
	const saved = (found) => {
		edit(null);
		setNotes(found.notes ?? []);
		it.reload();
	};
	return html`<div class="head"><h1>Alerts</h1>${may('admin') && html`<div class="actions"><button class="main" onClick=${() => edit({})}>New alert …</button></div>`}</div>
		${notes.length > 0 && html`<div class="trouble warn" role="status"><strong>It is set</strong><span>${notes.map((each) => visible(each)).join('; ')}</span></div>`}
		<${Shown} it=${it} what="Looking at the alerts">${({alerts}) => (alerts.length ? alerts.map((each) => html`<${One} key=${each.name} of=${each} reload=${it.reload} edit=${() => edit(each)} admin=${may('admin')} />`)
			: html`<${Empty} title="No alerts yet">Nobody is told when something is wrong. ${may('admin') ? html`<button onClick=${() => edit({})}>New alert …</button>` : html`An administrator makes one: <code>hotpath alert set stuck --when stranded --to slack:$SLACK_URL</code>`}<//>`)}<//>
		${edited && html`<${Editor} of=${edited} close=${() => edit(null)} saved=${saved} />`}`;
}

function One({of: each, reload, edit, admin}) {
	const now = useNow();
	const path = `/alerts/${encodeURIComponent(each.name)}`;
	const silent = each.silent_until && Date.parse(each.silent_until) > now;
	const change = (then) => async () => { await then(); reload(); };
	const silence = (length) => change(() => api(`${path}/silence`, {method: 'POST', body: {seconds: length}}));
	const test = async () => {
		const {channels} = await api(`${path}/test`, {method: 'POST'});
		return html`${channels.map((one) => html`<span class=${one.delivered ? '' : 'bad'}>${visible(one.channel)}: ${one.delivered ? 'delivered' : visible(one.problem ?? 'not delivered')}. </span>`)}`;
	};
	return html`<${Panel} name=${each.name} tone=${each.state === 'firing' && !silent ? 'failed' : ''} title=${html`<${State} of=${TONES[each.state] ?? 'queued'}>${each.state}<//> ${visible(each.name)}`}
			aside=${html`<span class="muted">since <${Ago} at=${each.since} />${silent && html`, <b>silent until <${Time} at=${each.silent_until} /></b>`}</span>`}>
		<div class="inner alert"><p><code>${visible(each.when)}</code> <span class="muted">${[each.for && `for ${span(each.for * 1000)}`, `over after ${span(each.clear * 1000)}`, `again after ${span(each.cooldown * 1000)}`].filter(Boolean).join(', ')}</span></p>
			${each.finding && html`<p>${visible(each.finding)}</p>`}
			<p class="muted">to ${each.to.map((one) => html`<code key=${one}>${visible(one)}</code> `)}${each.said_at && html`last said <${Time} at=${each.said_at} />`}</p>
			${(each.problem || each.undelivered > 0) && html`<p class="bad">${each.undelivered > 0 && `${plural(each.undelivered, 'word')} not delivered yet. `}${each.problem && visible(each.problem)}</p>`}
			${admin ? html`<div class="actions">${silent ? html`<${Act} act=${silence(null)}>Let it speak<//>` : html`<${Act} act=${silence(3600)}>Silence for 1 h<//><${Act} act=${silence(86400)}>for 24 h<//>`}
				<${Act} act=${test} title="Sends a test to each channel">Test<//><button onClick=${edit}>Change …</button><${Sure} name=${each.name} act=${change(() => api(path, {method: 'DELETE'}))} /></div>` : ''}</div><//>`;
}

function Editor({of: each, close, saved}) {
	const {name} = each;
	const send = ({name: typed, ...body}) => api(`/alerts/${encodeURIComponent(name ?? typed)}`, {method: 'PUT', body});
	return html`<${Ask} title=${name ? `Change the alert ${name}` : 'New alert'} prefix="alert" of="AlertBody" more=${name ? null : NAME} value=${each} send=${send} done=${saved} close=${close} />`;
}
