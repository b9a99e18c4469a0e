package VidgenTest::Nginx;

# The stock nginx with the built module, in a folder of its own.
#
#   my $nginx = VidgenTest::Nginx->new(
#       vars   => { DB => $pg->edge_conninfo, FAL => $provider->url },
#       env    => { FAL_API_KEY => 'k' },
#       config => <<'EOT');
#   %%GLOBALS%%
#   events { }
#   http {
#       %%HTTP%%
#       server { listen 127.0.0.1:%%PORT%%; ... }
#   }
#   EOT
#   $nginx->start;
#   get($nginx->url('/'));
#
# Placeholders: %%GLOBALS%% loads the module and names the logs, %%HTTP%% the
# access log and the folders for temporary files and for the monitor's state;
# where the configuration has no "vidgen_monitor" it also turns the monitor
# off, so that providers are asked by what is tested only.  %%PORT%% is a free
# port, and so is each %%PORT_NAME%%; %%PREFIX%% is the folder, %%ROOT%% the top
# of the tree, %%PROVIDERS%% its provider definitions; others come from vars.
#
# When the test ends, each nginx is told to quit gracefully, and the test
# fails if it does not, crashed, logged an [alert] or [emerg] that the test
# did not allow(), printed a value of a secret env, or if valgrind or a
# sanitizer reported anything.  With VIDGEN_VALGRIND=1 it runs under valgrind.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Path qw(remove_tree);
use File::Temp qw(tempdir);
use Scalar::Util qw(weaken);
use Time::HiRes qw(sleep time);

use VidgenTest::Util qw(alive free_port patience reap root slurp spawn spew
    wait_for);

my %running;                        # address => object, of this process
my $failed = 0;                     # a check at the end did not pass

END {
    my $status = $?;
    $_->destroy for values %running;
    $? = $status || ($failed ? 1 : 0);
}


# Options: config, vars, env, files (names and texts of further files in the
# folder), module (0: is not loaded), daemon (1: runs detached as upgrade()
# needs it), single (1: there is no master process), log (level of the error
# log: info).
sub new {
    my ($class, %opt) = @_;

    my $prefix = tempdir('vidgen-nginx-XXXXXXXX', TMPDIR => 1);
    chmod 0755, $prefix;

    my $self = bless {
        prefix => $prefix,
        module => $ENV{VIDGEN_MODULE} // root()
            . '/build/ngx_http_vidgen_module.so',
        ports  => {},
        vars   => {},
        allow  => [],
        owner  => $$,
        log    => 'info',
        %opt,
    }, $class;

    $self->{module} = abs_path($self->{module}) // die 'vidgen test: no '
        . "$self->{module} (make build)\n" if $self->{module};

    my %files = %{ $opt{files} // {} };
    $self->write_file($_, $files{$_}) for sort keys %files;
    $self->configure($opt{config});

    $running{$self} = $self;
    weaken($running{$self});
    return $self;
}


sub prefix { $_[0]{prefix} }
sub pid    { $_[0]{pid} }           # of the master

sub port {
    my ($self, $name) = @_;
    $name = defined $name ? "PORT_$name" : 'PORT';
    return $self->{ports}{$name} //= free_port();
}

sub url {
    my ($self, $uri, $name) = @_;
    return 'http://127.0.0.1:' . $self->port($name) . ($uri // '');
}

# Writes a configuration; ports stay as they were.  Under valgrind what has a
# time limit gets more of it.
sub configure {
    my ($self, $config) = @_;
    $self->{monitor} = $config =~ /\bvidgen_monitor\b/;
    ($self->{workers}) = ($config =~ /^\s*worker_processes +(\d+)/m, 1);
    if (patience() > 1) {
        $config =~ s/\b(timeout=|vidgen_attempt_timeout +)(\d+)(?=m?s\b)/
            $1 . $2 * patience()/gex;
        $config =~ s/\bvidgen_database\s(?![^;]*timeout=)[^;]+\K;/
            ' timeout=1m;'/gex;
    }
    $self->write_file('nginx.conf', $config);
}

# Writes a file into the folder, with its placeholders filled in.
sub write_file {
    my ($self, $name, $text) = @_;
    spew("$self->{prefix}/$name", $self->fill($text));
}


# Declares lines of the error log that are right in this test.
sub allow {
    my ($self, @patterns) = @_;
    push @{ $self->{allow} }, @patterns;
    return $self;
}


# Starts it and waits until all its workers run; dies where nginx refuses.
sub start {
    my ($self) = @_;

    $self->{pid} = $self->_spawn($self->_command);

    my $running = wait_for {
        return -1 if !$self->{daemon} && reap($self->{pid}, -1);
        my $pid = $self->_pid_file or return 0;
        $self->{pid} = $pid if $self->{daemon};
        return $pid == $self->{pid}
            && ($self->{single} || $self->_complete && $self->_named);
    };

    return $self if $running && $running == 1;

    $self->{pid} = undef if $running;
    die "vidgen test: nginx did not start:\n" . $self->output
        . $self->error_log;
}


# nginx -t, or another option: whether it accepts the configuration, and what
# it prints.
sub config_test {
    my ($self, $option) = @_;

    my $out = "$self->{prefix}/test";
    my $pid = spawn([$self->_command, $option // '-t'], out => $out,
        env => $self->{env});
    local $?;
    waitpid $pid, 0;
    my $passed = $? == 0;
    my $text = slurp($out);
    unlink $out;
    return ($passed, $text);
}


# Fast: what is being done is broken off.
sub stop { my ($self) = @_; return $self->_end('TERM') }

# Graceful; false if it is still there after $seconds (30).
sub quit { my ($self, $seconds) = @_; return $self->_end('QUIT', $seconds) }

# As if the machine had lost it.
sub crash {
    my ($self) = @_;
    my @all = ($self->{pid}, map { $_->{pid} } $self->processes);
    kill 'KILL', @all;
    return $self->_end('KILL');
}

sub restart { my ($self) = @_; $self->stop; return $self->start }


# Reloads; true once new workers do the work, false if nginx refuses the
# configuration.  wait => 1: also until the old ones are gone.
sub reload {
    my ($self, %opt) = @_;

    my %old = map { $_ => 1 } $self->workers;
    my $refused = () = $self->error_log =~ /\[emerg\]/g;
    kill 'HUP', $self->{pid};

    my $done = wait_for {
        return -1 if $refused < (() = $self->error_log =~ /\[emerg\]/g);
        return $self->_complete && !grep { $old{$_} } $self->workers;
    } $opt{seconds};

    return 0 if !$done || $done == -1;
    return 1 if !$opt{wait};
    return wait_for { !grep { $old{ $_->{pid} } } $self->processes }
        $opt{seconds};
}


# Sends a signal (KILL) to a worker and waits until another has taken its
# place.  Returns the pid that is gone.
sub kill_worker {
    my ($self, $signal) = @_;

    my ($victim, @others) = $self->workers;
    kill $signal // 'KILL', $victim;
    wait_for {
        my @now = $self->workers;
        return @now > @others && !grep { $_ == $victim } @now;
    } or die "vidgen test: no new worker\n" . $self->error_log;
    return $victim;
}


# Replaces the running binary by itself (needs daemon => 1).
sub upgrade {
    my ($self) = @_;
    return $self->leave($self->begin_upgrade);
}

# Starts the binary once more; returns the master that was, which goes on
# beside the new one.
sub begin_upgrade {
    my ($self) = @_;

    my $old = $self->{pid};
    kill 'USR2', $old;
    my $new = wait_for {
        my $pid = $self->_pid_file;
        return $pid && $pid != $old && alive($pid) ? $pid : 0;
    } or die "vidgen test: no upgrade\n" . $self->error_log;

    $self->{pid} = $new;
    wait_for { $self->_complete };
    return $old;
}

# Back to the old one, whose workers may have been sent away.  Returns the new
# one, which is still there.
sub resume {
    my ($self, $old) = @_;

    (my $new, $self->{pid}) = ($self->{pid}, $old);
    kill 'HUP', $old;
    wait_for { $self->_complete };
    return $new;
}

# Sends one of two masters away.
sub leave {
    my ($self, $master) = @_;
    kill 'QUIT', $master;
    return wait_for { !alive($master) };
}


# The children of a master, by default the one in charge: { pid, title }.
sub processes {
    my ($self, $master) = @_;

    my @found;
    for my $pid (_children($master // $self->{pid} // return)) {
        my $title = slurp("/proc/$pid/cmdline") // next;
        $title =~ s/\0+/ /g;
        push @found, { pid => $pid, title => $title =~ s/\s+$//r };
    }
    return sort { $a->{pid} <=> $b->{pid} } @found;
}

# The pids of the workers that accept connections.
sub workers {
    my ($self) = @_;
    my $what = $ENV{VIDGEN_VALGRIND} ? qr/valgrind/
        : qr/^nginx: worker process$/;
    return map { $_->{pid} } grep { $_->{title} =~ $what } $self->processes;
}


sub error_log  { $_[0]->read_file('error.log') }
sub access_log { $_[0]->read_file('access.log') }
sub output     { $_[0]->read_file('output') }

sub read_file {
    my ($self, $name) = @_;
    return slurp("$self->{prefix}/$name") // '';
}

# Waits for a line of the error log and returns it.
sub wait_log {
    my ($self, $pattern, $seconds) = @_;
    return wait_for {
        my ($line) = grep { $_ =~ $pattern } split /\n/, $self->error_log;
        $line;
    } $seconds;
}


# What is wrong with this run so far, as sentences.
sub complaints {
    my ($self) = @_;

    my $log = $self->output . $self->error_log;
    my @found = grep { /\[(?:alert|emerg)\]/ || /Sanitizer|runtime error:/ }
        split /\n/, $log;

    for my $allowed (@{ $self->{allow} }) {
        @found = grep { $_ !~ $allowed } @found;
    }

    push @found, map { "it left $_" } glob "$self->{prefix}/core*";
    push @found, grep { $_ } map { slurp($_) }
        glob "$self->{prefix}/valgrind/*";
    push @found, $self->_leaked_secrets($log . $self->access_log);
    push @found, grep { /vidgen:.*\btoken=\w/ } split /\n/, $log;
    return @found;
}

sub _leaked_secrets {
    my ($self, $text) = @_;

    my %env = %{ $self->{env} // {} };
    return map { "the value of $_ is in a log" }
        grep { length $env{$_} >= 6 && index($text, $env{$_}) >= 0 }
        grep { /SECRET|KEY|TOKEN|PASSWORD/ } sort keys %env;
}


# Stops it, checks it, and removes its folder.
sub destroy {
    my ($self) = @_;

    return if $self->{owner} != $$ || !$self->{prefix};
    delete $running{$self};

    my @wrong;
    if ($self->{pid} && !$self->quit) {
        push @wrong, 'it did not end after QUIT';
        $self->_end('TERM', 5) || $self->crash;
    }

    push @wrong, $self->complaints;
    if (@wrong) {
        $failed = 1;
        print STDERR map { "# nginx: $_\n" } map { split /\n/ } @wrong;
    }

    remove_tree($self->{prefix}, { safe => 0 }) unless $ENV{VIDGEN_KEEP};
    $self->{prefix} = '';
}

sub DESTROY {
    my ($self) = @_;
    local ($?, $@, $!);
    $self->destroy;
}


# ---- inside ----------------------------------------------------------------

sub _binary {
    my ($found) = grep { -x } map { "$_/nginx" } '/usr/sbin',
        '/usr/local/sbin', split /:/, $ENV{PATH} // '';
    return $ENV{VIDGEN_NGINX} // $found
        // die "vidgen test: no nginx found (Debian: apt install nginx)\n";
}

sub _command {
    my ($self) = @_;

    my @command = (_binary(), '-p', "$self->{prefix}/", '-c', 'nginx.conf');
    return @command unless $ENV{VIDGEN_VALGRIND};

    my $logs = "$self->{prefix}/valgrind";
    mkdir $logs;
    chmod 01777, $logs;
    return (qw(valgrind -q --vgdb=no --trace-children=yes --num-callers=20
        --keep-debuginfo=yes --leak-check=full --show-leak-kinds=definite
        --errors-for-leak-kinds=definite),
        '--suppressions=' . root() . '/t/valgrind.supp',
        "--log-file=$logs/%p", @command);
}

sub _spawn {
    my ($self, @command) = @_;
    unlink "$self->{prefix}/nginx.pid";
    my $pid = spawn(\@command, out => "$self->{prefix}/output",
        env => $self->{env}, orphan => $self->{daemon});
    return $pid unless $self->{daemon};
    waitpid $pid, 0;
    return undef;
}

sub _pid_file {
    my ($self) = @_;
    my ($pid) = $self->read_file('nginx.pid') =~ /^(\d+)$/m;
    return $pid;
}

sub _end {
    my ($self, $signal, $seconds) = @_;

    my $pid = $self->{pid} or return 1;
    my @children = map { $_->{pid} } $self->processes;
    kill $signal, $pid;

    if ($self->{daemon}) {
        wait_for { !alive($pid) } $seconds or return 0;
    } else {
        reap($pid, $seconds) or return 0;
    }

    $self->{pid} = undef;
    return wait_for { !grep { alive($_) } @children };
}

# Whether there are as many workers as the configuration wants.
sub _complete {
    my ($self) = @_;
    return $self->workers >= $self->{workers};
}

# Whether every child has given itself its title: a new one bears the master's.
sub _named {
    my ($self) = @_;
    return !grep { $_->{title} =~ /^nginx: master process/ } $self->processes;
}

sub _children {
    my ($parent) = @_;

    my @pids;
    for my $stat (glob '/proc/[0-9]*/stat') {
        my ($pid, $ppid) = (slurp($stat) // '')
            =~ /^(\d+) \(.*\) \S (\d+)/s or next;
        push @pids, $pid if $ppid == $parent;
    }
    return @pids;
}


# The text with its placeholders filled in.
sub fill {
    my ($self, $text) = @_;
    $text =~ s/%%([A-Z0-9_]+)%%/$self->_value($1)/ge;
    return $text;
}

sub _value {
    my ($self, $name) = @_;

    my $prefix = $self->{prefix};
    return $self->{vars}{$name} if exists $self->{vars}{$name};
    return $prefix if $name eq 'PREFIX';
    return root() if $name eq 'ROOT';
    return root() . '/providers' if $name eq 'PROVIDERS';
    return $self->_globals if $name eq 'GLOBALS';
    return $self->_http if $name eq 'HTTP';
    return $self->port($1) if $name =~ /^PORT(?:_(.+))?$/;
    die "vidgen test: nobody knows %%$name%%\n";
}

sub _globals {
    my ($self) = @_;

    my $prefix = $self->{prefix};
    my @lines = ("pid $prefix/nginx.pid;",
        "error_log $prefix/error.log $self->{log};",
        'daemon ' . ($self->{daemon} ? 'on' : 'off') . ';');
    push @lines, "load_module $self->{module};" if $self->{module};
    push @lines, 'user www-data;' if $> == 0;
    return join "\n", @lines;
}

sub _http {
    my ($self) = @_;

    my $prefix = $self->{prefix};
    my @temp = map { "${_}_temp_path $prefix/$_;" } qw(client_body proxy
        fastcgi uwsgi scgi);
    push @temp, "vidgen_state_path $prefix/state;" if $self->{module};
    push @temp, 'vidgen_monitor off;' if $self->{module} && !$self->{monitor};
    return join "\n", "access_log $prefix/access.log;", @temp;
}


1;
