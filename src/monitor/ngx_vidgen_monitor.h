#ifndef _NGX_VIDGEN_MONITOR_H_INCLUDED_
#define _NGX_VIDGEN_MONITOR_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "core/ngx_vidgen_monitor_conf.h"


/*
 * The monitor: probes, polls, sweeps, alerts and key sets, in a process of the
 * master's that is not a worker.  nginx spawns, titles and respawns its cache
 * manager process where a path has a manager; there the monitor runs.
 *
 * It may be ended at any moment, so whatever it does can be done again.
 */

/*
 * While the configuration loads, when all of conf is set: has nginx start the
 * monitor.  NGX_ERROR: logged.
 */
ngx_int_t ngx_vidgen_monitor_add(ngx_conf_t *cf,
    ngx_vidgen_monitor_conf_t *conf);

/*
 * Starts it in this process, which has an event loop; where nginx has a master
 * this happens by itself.  Logs what is wrong.
 */
void ngx_vidgen_monitor_start(ngx_cycle_t *cycle,
    ngx_vidgen_monitor_conf_t *conf);

/* Ends it in this process, if it is here. */
void ngx_vidgen_monitor_stop(void);


#endif /* _NGX_VIDGEN_MONITOR_H_INCLUDED_ */
