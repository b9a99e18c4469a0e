#!/usr/bin/perl

# A webhook secret is rotated while signed webhooks flow: the new one is added
# and loaded, the provider signs with it, the old one is dropped and loaded;
# then the binary is replaced, whose secrets from the environment stay.  Not
# one valid webhook is refused.
#
# Not under valgrind: it replaces the binary.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw(hmac_sha256_hex);
use POSIX ();
use Test::More tests => 17;

use VidgenTest::Http qw(request);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(append reap slurp spew uuid wait_for);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $app = VidgenTest::Provider->new;

my $nginx = VidgenTest::Nginx->new(
    daemon => 1,
    vars => { APP => $app->url },
    files => { 'first' => 'the-old-secret' },
    env  => {
        DATABASE_URL   => $pg->edge_conninfo,
        STEADY_SECRET  => 'the-steady-secret',
        CAPABILITY_KEY => 'the-capability-secret',
    },
    config => <<'EOT')->start;
%%GLOBALS%%

worker_processes 2;

events { }

http {
    %%HTTP%%

    vidgen_database  env:DATABASE_URL;
    vidgen_monitor   off;
    vidgen_secret    env:CAPABILITY_KEY;

    vidgen_provider rotated {
        webhook {
            signature  hmac-sha256 header=X-Signature;
            secret     file:%%PREFIX%%/first file:%%PREFIX%%/second;
            job_id     /id;
            status     /status;
        }
    }

    vidgen_provider steady {
        webhook {
            signature  hmac-sha256 header=X-Signature;
            secret     env:STEADY_SECRET;
            job_id     /id;
            status     /status;
        }
    }

    server {
        listen 127.0.0.1:%%PORT%%;

        location /hook/rotated { vidgen_webhook rotated; }
        location /hook/steady  { vidgen_webhook steady; }

        location /verify/rotated {
            vidgen_verify rotated;
            proxy_pass    %%APP%%;
        }

        location /verify/steady {
            vidgen_verify steady;
            proxy_pass    %%APP%%;
        }
    }
}
EOT

my $dir = $nginx->prefix;

# jobs enough for all webhooks that will come

my $user = uuid();
$pg->query("INSERT INTO user_credits (user_id, balance)
    VALUES ('$user', 1000000)");
$pg->query("INSERT INTO models (id, credits_per_generation)
    VALUES ('m', 1)");
$pg->query("INSERT INTO video_jobs (id, user_id, model_id, prompt, status,
        provider_name, provider_job_id, credits_used)
    SELECT gen_random_uuid(), '$user', 'm', 'p', 'queued', p, p || '-' || n, 1
      FROM generate_series(1, 24000) n, unnest(ARRAY['rotated', 'steady']) p");

# senders: what they send and get is a line in a file of each

signer('the-old-secret');
my @senders = map { sender($_) } 0 .. 2;
flow('the-old-secret');

is(probe('the-new-secret'), 401, 'the new secret is not known yet');

spew("$dir/second", 'the-new-secret');
ok($nginx->reload, 'the new secret is added');
flow('the-old-secret');
is(probe('the-new-secret'), 200, 'it is known beside the old one');

signer('the-new-secret');
flow('the-new-secret');

spew("$dir/first", 'the-new-secret');
unlink "$dir/second";
ok($nginx->reload, 'the old secret is dropped');
flow('the-new-secret');
is(probe('the-old-secret'), 401, 'and not believed any more');
is(probe('the-new-secret'), 200, 'unlike the new one');

for my $time (1, 2) {
    my $old = $nginx->pid;
    ok($nginx->upgrade && $nginx->pid != $old, "the binary is replaced: $time");
    flow('the-new-secret');
    ok($nginx->reload, 'and reloads');
    flow('the-new-secret');
}

unlink "$dir/signer";
reap($_->{pid}) for @senders;

# what came of them

my @lines = map { split /\n/, slurp($_->{file}) } @senders;
my %count;
$count{$_}++ for @lines;

cmp_ok(@lines, '>', 200, 'webhooks flowed');
is_deeply([grep { !/ 200$/ } keys %count], [], 'none was refused')
    or diag(map { "$_: $count{$_}\n" } sort keys %count);
is((grep { /^hook/ && / 200$/ } @lines),
    $pg->value("SELECT count(*) FROM video_jobs
        WHERE status = 'completed'"), 'and each had its effect');

my $log = $nginx->error_log;
unlike($log, qr/the-\w+-secret/, 'no secret in the log');
like($log, qr/\[notice\] .* secret ".*second" .* skipped/,
    'the missing one was noted');
unlike($log, qr/\[error\]/, 'no error in the log');
unlike(join(' ', map { $_->{title} } $nginx->processes),
    qr/the-\w+-secret|password/, 'nor in the title of a process');


# From now on the senders sign with that.
sub signer {
    my ($secret) = @_;
    spew("$dir/signer.new", $secret);
    rename "$dir/signer.new", "$dir/signer";
}

# One webhook of its own, outside of the flow, signed with $secret.
sub probe {
    my ($secret) = @_;
    my $body = '{"id":"probe-' . uuid() . '"}';
    return request('POST', $nginx->url('/verify/rotated'),
        { 'X-Signature' => hmac_sha256_hex($body, $secret) }, $body)->{status};
}

# A process that sends webhooks, one after the other, until the signer is gone.
sub sender {
    my ($number) = @_;

    my $file = "$dir/sender-$number";
    spew($file, '');
    my $pid = fork // die "fork: $!";
    return { pid => $pid, file => $file } if $pid;

    my $n = $number * 8000;
    while (my $secret = slurp("$dir/signer")) {
        $n++;
        for my $provider (qw(rotated steady)) {
            my $body = qq({"id":"$provider-$n","status":"completed"});
            my $key = $provider eq 'steady' ? 'the-steady-secret' : $secret;
            my $sign = hmac_sha256_hex($body, $key);
            for my $way (qw(verify hook)) {
                my $answer = request('POST', $nginx->url("/$way/$provider"),
                    { 'X-Signature' => $sign }, $body);
                append($file, "$way $provider $key "
                    . ($answer->{error} // $answer->{status}) . "\n");
            }
        }
    }
    POSIX::_exit(0);
}

# Waits until each sender has sent some more, signed with $secret.
sub flow {
    my ($secret) = @_;

    my @before = map { length slurp($_->{file}) } @senders;
    wait_for {
        !grep {
            my $new = substr slurp($senders[$_]{file}), $before[$_];
            20 > (() = $new =~ / \Q$secret\E /g);
        } 0 .. $#senders;
    } or die "no webhooks flow\n";
}
