package VidgenTest::Jobs;

# What the database says of one job, for tests of failover.
#
#   is(attempts($pg, $job), 'a unsent - connect, b accepted 200 -');
#   is(moves($pg, $job), 'a b connect');
#   is(job($pg, $job), 'queued b 2 connect');
#
#   is(last_job($pg), $job);        # the one that was made last
#   sweep($pg, $job);               # as if its leases were over
#   sweep($pg, $job, '1 hour');     # as if so much time had passed

use strict;
use warnings;

use Exporter qw(import);

our @EXPORT_OK = qw(attempts job last_job moves sweep);


# Each attempt in its order: provider, state, HTTP status and reason, "-" for
# what is NULL.
sub attempts {
    my ($pg, $job) = @_;
    return _lines($pg, "SELECT provider, state, http_status, reason
        FROM vidgen.attempts WHERE job_id = '$job' ORDER BY number");
}

# The failover log of the job: from, to, reason.
sub moves {
    my ($pg, $job) = @_;
    return _lines($pg, "SELECT from_provider, to_provider, reason
        FROM provider_failover_log WHERE job_id = '$job' ORDER BY id");
}

# Its status, provider_name, provider_attempts, failover_reason.
sub job {
    my ($pg, $job) = @_;
    return _lines($pg, "SELECT status, provider_name, provider_attempts,
        failover_reason FROM video_jobs WHERE id = '$job'");
}

sub last_job {
    my ($pg) = @_;
    return $pg->value('SELECT id FROM video_jobs ORDER BY id DESC LIMIT 1');
}

# The leases of the job's attempts are over, and its other times too if a time
# is given; then the sweep comes, twice.  What it did, in the second call, is
# nothing.
sub sweep {
    my ($pg, $job, $time) = @_;

    $pg->query("UPDATE vidgen.attempts SET lease = now() - interval '1 s'
        WHERE job_id = '$job' AND lease IS NOT NULL");
    $pg->query("SELECT vidgen.sweep('30 min', '1 day', 1000)");
    return unless $time;

    $pg->query("UPDATE vidgen.attempts SET since = since - interval '$time',
        deadline = deadline - interval '$time' WHERE job_id = '$job'");
    $pg->query("SELECT vidgen.sweep('30 min', '1 day', 1000)");
}


sub _lines {
    my ($pg, $query) = @_;
    return join ', ', map { join ' ', map { $_ // '-' } @$_ }
        @{ $pg->query($query) };
}


1;
