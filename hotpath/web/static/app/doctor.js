// Doctor: what is wrong with this installation, what shows it, and the command that mends it.
import {html} from '../vendor/preact.js';
import {useApi} from './data.js';
import {plural, visible} from './format.js';
import {Copy, Empty, Panel, Shown, Time} from './parts.js';

const SAID = {error: 'failed', warning: 'waiting'};
const value = (each) => visible(typeof each === 'string' ? each : JSON.stringify(each));

export function Doctor() {
	const it = useApi('/doctor');
	if (it.error?.status === 403) return html`<div class="head"><h1>Doctor</h1></div><${Empty} title="Only an administrator sees this">It needs a token with the scope <code>admin</code>. Who has the database's address can ask <code>hotpath doctor</code>.<//>`;
	return html`<div class="head"><h1>Doctor</h1><div class="actions">${it.at && html`<span class="muted">examined <${Time} at=${new Date(it.at).toISOString()} /></span>`}<button disabled=${it.loading} aria-busy=${it.loading} onClick=${it.reload}>Examine again</button></div></div>
		<${Shown} it=${it} what="Examining the database, the workers, and what lies between">${({findings, checks}) => (findings.length ? html`<p class="muted note">${plural(findings.length, 'finding')} of ${plural(checks, 'check')}, the worst first.</p>
			${findings.map((each, k) => html`<${Panel} key=${`${each.code} ${k}`} tone=${SAID[each.severity] ?? ''} title=${visible(each.title)} aside=${html`<span class="muted">${each.severity}</span><code class="muted">${each.code}</code>`}><div class="inner finding" data-row>
				<p>${visible(each.text)}</p>
				<p class="evidence">${Object.entries(each.evidence).map(([name, shown]) => html`<span key=${name}><small>${name}</small> <code>${value(shown)}</code></span>`)}</p>
				${each.mend && html`<p class="mend"><${Copy} text=${each.mend} label="Copy what mends it"><code>${visible(each.mend)}</code><//></p>`}</div><//>`)}`
			: html`<${Empty} title="Nothing is wrong">${plural(checks, 'check')} were made; none found anything.<//>`)}<//>`;
}
